"""Tools that handlers and agents call by name, under the current organization. It needs the package redis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Optional

from .context import current_organization, current_user
from .directory import Directory, Refused
from .errors import NoOrganization
from .names import is_group
from .space import Space

__all__ = ["Refused", "Store", "Tool", "Tools", "UnknownTool", "run_tool"]

_MAX_STORED = 1024 * 1024


class UnknownTool(LookupError):
    """There is no tool of this name."""


class Store:
    """Values of one organization under short names. No name reaches another organization."""

    def __init__(self, space: Space) -> None:
        self._space, self._organization = space, current_organization()

    def get(self, name: str) -> Optional[str]:
        """Returns what is stored under the name, or None."""
        value = self._space.client.get(self._key(name))
        return None if value is None else str(value)

    def set(self, name: str, value: str, life: Optional[float] = None) -> None:
        """Stores a value, for so many seconds or for ever."""
        self._space.client.set(self._key(name), self._checked(value), px=_ms(life))

    def set_new(self, name: str, value: str, life: Optional[float] = None) -> bool:
        """Stores a value unless something is stored under the name, and says whether it did."""
        return bool(self._space.client.set(self._key(name), self._checked(value), px=_ms(life), nx=True))

    def delete(self, name: str) -> None:
        """Removes what is stored under the name, if anything is."""
        self._space.client.delete(self._key(name))

    def _key(self, name: str) -> str:
        if current_organization() != self._organization:
            raise NoOrganization("orgcast: this store belongs to another organization than the current one")
        if not is_group(name):
            raise ValueError("orgcast: invalid name")
        return self._space.key(self._organization, f"store:{name}")

    @staticmethod
    def _checked(value: str) -> str:
        if len(value.encode()) > _MAX_STORED:
            raise ValueError("orgcast: the value is too large")
        return value


def _ms(life: Optional[float]) -> Optional[int]:
    return None if life is None else max(int(life * 1000), 1)


Tool = Callable[[Store, Any], Any]


class Tools:
    """The tools of a process by name. It may be used by several threads."""

    def __init__(
        self, client: Any, tools: Mapping[str, Tool], *, state: Any = None, prefix: str = "orgcast", directory: str = "redis"
    ) -> None:
        """client is a redis.Redis or redis.RedisCluster with decode_responses and a socket_timeout.

        state is the Redis server that holds the directory, if it is another one.
        """
        self._tools, self._space = dict(tools), Space(client, prefix)
        self._directory = Directory(state or client, prefix, directory == "session")

    def run(self, name: str, value: Any = None) -> Any:
        """Runs a tool for the current organization and user, with a value that JSON can hold.

        The directory is asked each time: the organization must be active, and the user, if there is one, an
        active member. Otherwise it raises Refused.
        """
        organization = current_organization()
        self._directory.admit(organization, current_user())
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownTool(name)
        # Through JSON, so that a tool shares no object with its caller, wherever it runs.
        return _copy(tool(Store(self._space), _copy(value)))


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


_tools: ContextVar[Optional[Tools]] = ContextVar("orgcast_tools", default=None)


@contextmanager
def tools_context(tools: Optional[Tools]) -> Iterator[None]:
    """Makes these the tools of run_tool for the block. A worker does that for its handlers."""
    before = _tools.set(tools)
    try:
        yield
    finally:
        _tools.reset(before)


def run_tool(name: str, value: Any = None) -> Any:
    """Runs one of the tools that the worker was given. See Tools.run."""
    current_organization()
    tools = _tools.get()
    if tools is None:
        raise UnknownTool(name)
    return tools.run(name, value)
