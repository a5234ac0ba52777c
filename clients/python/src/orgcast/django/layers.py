"""The channel layers of channels_redis, whose group_send also publishes to Orgcast.

    CHANNEL_LAYERS = {"default": {"BACKEND": "orgcast.django.layers.RedisChannelLayer", "CONFIG": {…}}}
"""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from typing import Any, Optional

from channels_redis.core import RedisChannelLayer as CoreLayer
from channels_redis.pubsub import RedisPubSubChannelLayer as PubSubLayer

from .. import aio
from ..context import current_organization
from ..errors import NoOrganization, OrgcastError
from ..names import as_text
from . import conf

_log = logging.getLogger("orgcast")
_warned: set[tuple[str, str]] = set()  # groups and types
_MOST_WARNINGS = 1000


async def publish(group: str, message: dict[str, Any]) -> None:
    """Publishes what group_send was given. What Orgcast does not take is logged, and the site goes on."""
    organization = _organization(message)
    if organization is None:
        _warn_once(group, str(message.get("type")))
        return
    recorded = any(fnmatchcase(group, pattern) for pattern in conf.record())
    try:
        if recorded:
            await aio.record(organization, group, message, via=conf.publisher())
        else:
            await aio.publish(organization, group, message, via=conf.publisher())
    except (OrgcastError, RuntimeError, TypeError, ValueError) as error:  # the last two: JSON cannot hold it
        _log.error("orgcast: an event of type %s for group %s was not published: %s", message.get("type"), group, error)


def _organization(message: dict[str, Any]) -> Optional[str]:
    named = as_text(message.get("organization_id"))
    if named:
        return named
    ask = conf.function("CURRENT_ORGANIZATION")
    try:
        return as_text(ask()) or None if ask else current_organization()
    except NoOrganization:
        return None


def _warn_once(group: str, kind: str) -> None:
    if (group, kind) in _warned or len(_warned) >= _MOST_WARNINGS:
        return
    _warned.add((group, kind))
    _log.warning(
        "orgcast: events of type %s for group %s name no organization, so that they are not published: "
        'add organization_id, set ORGCAST["CURRENT_ORGANIZATION"], or use organization_context',
        kind,
        group,
    )


class RedisChannelLayer(CoreLayer):  # type: ignore[misc]
    """channels_redis.core.RedisChannelLayer that also publishes."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Sends to the group in Channels, and to the organization's members of that group."""
        if conf.get("CHANNELS"):
            await super().group_send(group, message)
        await publish(group, message)


class RedisPubSubChannelLayer(PubSubLayer):  # type: ignore[misc]
    """channels_redis.pubsub.RedisPubSubChannelLayer that also publishes."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Sends to the group in Channels, and to the organization's members of that group."""
        if conf.get("CHANNELS"):
            await self.__getattr__("group_send")(group, message)  # it is a proxy: super() has no such method
        await publish(group, message)
