"""The setting ORGCAST, read when it is needed, so that tests may override it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..gateway import Gateway
from ..publisher import Publisher, configured

#: Every name that ORGCAST may have, and what counts without it.
DEFAULTS: dict[str, Any] = {
    "SESSION_KEY": "",  # the gateway's --session-url-key
    "IDENTITY_PATH": "/orgcast/identity",  # the path of its --session-url
    "MEMBERSHIP": None,
    "ACTIVE_ORGANIZATION": "active_organization_id",
    "GATEWAY": None,  # {"URL": …, "KEY": …}: where events and announcements go
    "CURRENT_ORGANIZATION": None,
    "RECORD": (),
    "CHANNELS": True,
}
_MIN_KEY = 32


def get(name: str) -> Any:
    """Returns one of the values."""
    return {**DEFAULTS, **given()}[name]


def given() -> dict[str, Any]:
    """Returns what the site has set. A name that does not exist is a mistake."""
    values: dict[str, Any] = getattr(settings, "ORGCAST", {})
    unknown = sorted(set(values) - set(DEFAULTS))
    if unknown:
        raise ImproperlyConfigured(f"ORGCAST: unknown {', '.join(unknown)}; there are {', '.join(DEFAULTS)}")
    return values


def session_key() -> str:
    """Returns the key with which the gateway asks, or raises ImproperlyConfigured."""
    key = get("SESSION_KEY")
    if not isinstance(key, str) or len(key) < _MIN_KEY:
        raise ImproperlyConfigured(f'ORGCAST["SESSION_KEY"]: must have at least {_MIN_KEY} characters')
    return key


def function(name: str) -> Optional[Callable[..., Any]]:
    """Returns a value that is a function or the dotted name of one, or None."""
    value = get(name)
    found: Optional[Callable[..., Any]] = import_string(value) if isinstance(value, str) else value
    if found is not None and not callable(found):
        raise ImproperlyConfigured(f'ORGCAST["{name}"]: must be a function or its dotted name')
    return found


def record() -> Sequence[str]:
    """Returns the patterns of groups whose events are recorded."""
    patterns = get("RECORD")
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


#: A page waits for an announcement, so it is tried once. Without it, sockets end within --lease-period.
_ANNOUNCEMENT_TIMEOUT = 1.0
_gateways: dict[tuple[str, str, bool], Gateway] = {}


def publisher() -> Publisher:
    """Returns what was given to orgcast.configure, or the gateway of the setting."""
    return _publisher(hurried=False)


def announcer() -> Publisher:
    """Returns the same for announcements, for which the user waits."""
    return _publisher(hurried=True)


def _publisher(hurried: bool) -> Publisher:
    gateway = get("GATEWAY")
    if gateway is None:
        return configured()
    where = (gateway["URL"], gateway["KEY"], hurried)
    if where not in _gateways:
        options: dict[str, Any] = {"timeout": _ANNOUNCEMENT_TIMEOUT, "attempts": 1} if hurried else {}
        _gateways[where] = Gateway(gateway["URL"], gateway["KEY"], **options)
    return _gateways[where]
