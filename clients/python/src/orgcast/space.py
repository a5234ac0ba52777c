"""An organization's names in Redis, and the connection under them."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any, Optional

import redis

from .clocks import Clocks
from .errors import OrgcastError
from .names import as_text, is_group, is_id, is_type, user_in_key
from .publisher import Event

MAX_EVENT = 256 * 1024
DAY_MS = 24 * 3600 * 1000
#: How many events a group's history keeps, and how long, in ms.
HISTORY = (1000, DAY_MS)
_DEFAULT_TIMEOUT = 5.0


def script_text(name: str) -> str:
    """Returns a script of clients/lua, such as "record.v1"."""
    return (importlib.resources.files("orgcast") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def connect(url: str, cluster: bool = False, timeout: float = _DEFAULT_TIMEOUT) -> Any:
    """Returns a client whose calls end in time. cluster says that the URL is of a member of a Redis Cluster."""
    kind: Any = redis.RedisCluster if cluster else redis.Redis
    return kind.from_url(
        url, decode_responses=True, encoding_errors="surrogateescape", socket_timeout=timeout, socket_connect_timeout=timeout
    )


class Space:
    """Names and scripts. No method makes a name of anything but the organization that it is given."""

    def __init__(self, client: Any, prefix: str, timeout: Optional[float] = None) -> None:
        if not is_id(prefix):
            raise ValueError("orgcast: invalid prefix")
        self.client, self.prefix = client, prefix
        self.cluster = isinstance(client, redis.RedisCluster)
        # Databases have keys of their own, but channels in common. A Cluster has one database.
        settings = {} if self.cluster else client.connection_pool.connection_kwargs
        database = settings.get("db") or 0
        self._channels = f"{prefix}@{database}" if database else prefix
        self.clocks = Clocks(client, timeout or settings.get("socket_timeout") or _DEFAULT_TIMEOUT)
        self._scripts: dict[str, Any] = {}

    def key(self, organization: str, rest: str) -> str:
        """Returns the name of a key of an organization."""
        return f"{self.prefix}:{{{organization}}}:{rest}"

    def member(self, organization: str, user: str) -> str:
        """Returns the key of a membership."""
        return self.key(organization, f"member:{user_in_key(user)}")

    def history(self, organization: str, group: str) -> str:
        """Returns the key of a group's history."""
        return self.key(organization, f"history:{group}")

    def channel(self, organization: str, group: str) -> str:
        """Returns the channel of a group."""
        return f"{self._channels}:{{{organization}}}:group:{group}"

    def control(self) -> str:
        """Returns the channel of announcements."""
        return f"{self._channels}:control"

    def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Runs a script of clients/lua."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.client.register_script(script_text(name))
        return script(keys=keys, args=args)

    def run_in_time(self, name: str, keys: list[str], args: list[Any], after: tuple[Any, ...] = ()) -> Any:
        """Runs a script that has its latest moment behind args."""
        try:
            return self.run(name, keys, [*args, self.clocks.latest(keys[0]), *after])
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("LATE"):
                raise
            self.clocks.forget()  # our idea of them was wrong; nothing has happened
            return self.run(name, keys, [*args, self.clocks.latest(keys[0]), *after])


def complete(call: str, organization: str, group: str, event: Event) -> str:
    """Returns the payload of an event, with its organization, or raises the code that the gateway would say."""
    if not is_id(organization):
        raise OrgcastError(call, 0, "no_organization")
    if not is_group(group):
        raise OrgcastError(call, 0, "invalid_group")
    named = as_text(event.get("organization_id", organization))
    if named != organization:
        raise OrgcastError(call, 0, "foreign_organization" if is_id(named) else "no_organization")
    if not isinstance(event.get("type"), str) or not is_type(event["type"]):
        raise OrgcastError(call, 0, "invalid_type")
    whole = {"organization_id": organization, **event}
    text = json.dumps(whole, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise OrgcastError(call, 0, "not_utf8") from None
    if size > MAX_EVENT:
        raise OrgcastError(call, 0, "too_large")
    return text
