"""The time by each Redis server's own clock, so that a server that hung runs no script too late."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis

#: How long a reading of a server's clock is good, in seconds.
_GOOD_FOR = 60.0


class Clocks:
    """Says until when a script may run. It may be used by several threads."""

    def __init__(self, client: Any, timeout: float) -> None:
        """timeout is how long the client waits for an answer, in seconds."""
        self._client, self._timeout = client, timeout
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, float]] = {}  # server → its time in ms, and when it told

    def latest(self, key: str) -> int:
        """Returns when the client gives up, in ms by the clock of the server that has the key."""
        name, server = "", self._client
        if isinstance(server, redis.RedisCluster):
            node: Any = server.get_node_from_key(key)
            name, server = node.name, server.get_redis_connection(node)
        with self._lock:
            told, at = self._known.get(name, (0, -_GOOD_FOR))
        if time.monotonic() - at >= _GOOD_FOR:
            at = time.monotonic()
            seconds, microseconds = server.time()
            told = seconds * 1000 + microseconds // 1000
            with self._lock:
                self._known[name] = (told, at)
        return told + int((time.monotonic() - at + self._timeout) * 1000)

    def forget(self) -> None:
        """Has every clock read anew: the next connection may lead to another server."""
        with self._lock:
            self._known.clear()
