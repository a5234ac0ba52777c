"""Publishing to Redis directly, without the gateway. It needs the package redis."""

from __future__ import annotations

import json
from typing import Any, Optional

import redis

from .errors import OrgcastError
from .names import Identifier, as_text, is_id, is_idempotency_key, is_role, is_user_id, user_in_key
from .publisher import Event, Receipt
from .space import HISTORY, Space, complete

#: How long the end of a session is remembered: the gateway's --session-max-age.
_SESSION_LIFE_MS = 14 * 24 * 3600 * 1000
# Of a Cluster: it goes where the organization's keys are, and follows a slot that moves.
_SPUBLISH = "return redis.call('SPUBLISH', ARGV[1], ARGV[2])"
_FIELDS = {
    "session.ended": ("session_id",),
    "user.disabled": ("user_id",),
    "member.removed": ("organization_id", "user_id"),
    "organization.suspended": ("organization_id",),
    "organization.switched": ("session_id", "organization_id"),
    "member.role": ("organization_id", "user_id", "role"),
}


def _is_good(kind: str, name: str, text: str) -> bool:
    """Whether text can be a field of an announcement."""
    if name == "user_id":
        return is_user_id(text)
    if name == "role":
        return text == "" or is_role(text)
    return is_id(text) or (text == "" and kind == "organization.switched" and name == "organization_id")


class Direct:
    """A Redis server or Cluster. It may be used by several threads.

    Its errors have the codes of the gateway's HTTP API, and the status 0.
    """

    def __init__(self, client: Any, prefix: str = "orgcast", directory: str = "redis") -> None:
        """client is a redis.Redis or redis.RedisCluster with decode_responses and a socket_timeout.

        directory is the gateway's --directory: with "session", memberships and organizations are your own
        to change, and revoke only announces that.
        """
        if directory not in ("redis", "session"):
            raise ValueError('orgcast: directory must be "redis" or "session"')
        self._space, self._directory = Space(client, prefix), directory

    def publish(self, organization: Identifier, group: str, event: Event) -> Receipt:
        """Sends an event to the members of a group who are connected now. It is tried once."""
        org = as_text(organization)
        text, space = complete("publish", org, group, event), self._space
        channel = space.channel(org, group)
        try:
            if space.cluster:
                nodes = space.client.eval(_SPUBLISH, 1, space.history(org, group), channel, text)
            else:
                nodes = space.client.publish(channel, text)
        except redis.exceptions.RedisError as error:
            raise OrgcastError("publish", 0, "unavailable") from error
        return Receipt(nodes=int(nodes))

    def record(
        self, organization: Identifier, group: str, event: Event, idempotency_key: Optional[str] = None
    ) -> Receipt:
        """The same, and keeps the event in the group's history.

        Under an idempotency key it can be repeated without harm. It is tried once.
        """
        org = as_text(organization)
        text, space = complete("record", org, group, event), self._space
        keys = [space.history(org, group)]
        if idempotency_key is not None:
            if not is_idempotency_key(idempotency_key):
                raise OrgcastError("record", 0, "invalid_idempotency_key")
            keys.append(space.key(org, f"once:{group}:{idempotency_key}"))
        try:
            answer = space.run_in_time("record.v1", keys, [space.channel(org, group), text, *HISTORY], after=("reach",))
        except redis.exceptions.RedisError as error:
            space.clocks.forget()  # the next connection may lead to another server
            raise OrgcastError("record", 0, "unavailable") from error
        if len(answer) == 1:
            return Receipt(id=answer[0], repeated=True)
        return Receipt(nodes=int(answer[1]), id=answer[0])

    def revoke(self, message: Event) -> str:
        """Ends the right to be connected: changes the record, then announces it."""
        named = self._checked(message)
        try:
            outcome = self._change(named)
            recorded: Optional[Exception] = None
        except redis.exceptions.RedisError as error:
            outcome, recorded = "", error
        try:
            self._space.client.publish(self._space.control(), json.dumps(named))
        except redis.exceptions.RedisError as error:
            raise OrgcastError("revoke", 0, "unavailable" if recorded else "not_announced") from error
        if recorded:
            raise OrgcastError("revoke", 0, "not_recorded") from recorded
        return outcome

    def _checked(self, message: Event) -> dict[str, str]:
        kind = message.get("type")
        fields = _FIELDS.get(kind) if isinstance(kind, str) else None
        if fields is None or set(message) != {"type", *fields}:
            raise OrgcastError("revoke", 0, "bad_request")
        # No organization may be active, and a member may have no role: both are told as "".
        named = {name: "" if message[name] is None and name == "organization_id" else as_text(message[name]) for name in fields}
        if not all(_is_good(str(kind), name, text) for name, text in named.items()):
            raise OrgcastError("revoke", 0, "bad_request")
        return {"type": str(kind), **named}

    def _change(self, named: dict[str, str]) -> str:
        """Changes the record so that nobody comes back."""
        space, kind = self._space, named["type"]
        if kind == "session.ended":
            space.client.set(f"{space.prefix}:session-ended:{named['session_id']}", "1", px=_SESSION_LIFE_MS)
        elif kind == "user.disabled":
            space.client.set(f"{space.prefix}:user-disabled:{user_in_key(named['user_id'])}", "1")
        elif self._directory == "session" or kind in ("organization.switched", "member.role"):
            return "announced"  # the record is the site's
        elif kind == "member.removed":
            space.client.delete(space.member(named["organization_id"], named["user_id"]))
        else:
            space.client.hset(space.key(named["organization_id"], "org"), "status", "suspended")
        return "revoked"
