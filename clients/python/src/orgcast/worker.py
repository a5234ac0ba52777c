"""A worker for tasks, as docs/tasks.md describes it. It needs the package redis.

    from orgcast.worker import Job, main

    def count(job: Job):
        return {"type": "task_complete", "task_id": job.id, "words": len(job.payload["text"].split())}

    main({"words": count})
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import redis

from .context import organization_context
from .directory import Directory, Refused
from .errors import OrgcastError
from .job import GiveUp, Job, Lost, earlier
from .names import is_id
from .publisher import Event
from .space import Space, connect
from .tools import Tool, Tools, tools_context

__all__ = ["GiveUp", "Job", "Lost", "Options", "Refused", "Worker", "main"]

_GROUP = "workers"
_log = logging.getLogger("orgcast.worker")

Handler = Callable[[Job], Union[Optional[Event], Awaitable[Optional[Event]]]]
_Entry = tuple[str, int, Mapping[str, str]]


@dataclass(frozen=True)
class Options:
    """How a worker works. Times are in seconds."""

    #: how often a task is tried
    attempts: int = 5
    #: pause after the first failure; doubles with each, up to takeover, less up to a half at random
    backoff: float = 1.0
    #: silence after which a worker counts as dead; the same for all workers of a kind
    takeover: float = 30.0
    #: longest single wait for a task; the client's socket_timeout must be longer
    poll: float = 1.0
    prefix: str = "orgcast"
    #: "redis", or "session" if the web application vouches for organizations and members
    directory: str = "redis"


class Worker:
    """Runs the tasks of a kind, one at a time, each under its own organization."""

    def __init__(
        self,
        client: Any,
        kind: str,
        handler: Handler,
        options: Optional[Options] = None,
        *,
        state: Any = None,
        tools: Optional[Mapping[str, Tool]] = None,
    ) -> None:
        """client is a redis.Redis or redis.RedisCluster with decode_responses, encoding_errors="surrogateescape"
        and a socket_timeout; orgcast.space.connect makes one. state is the Redis server that holds the
        directory, if it is another one. tools are what run_tool finds in the handler.
        """
        self._options = options = options or Options()
        if not is_id(kind):
            raise ValueError("orgcast: invalid kind")
        self._kind, self._handler, self._redis = kind, handler, client
        self._space = Space(client, options.prefix)
        self._takeover, self._poll = int(options.takeover * 1000), int(options.poll * 1000)
        self._directory = Directory(state or client, options.prefix, options.directory == "session")
        self._tools = Tools(client, tools or {}, state=state, prefix=options.prefix, directory=options.directory)
        self._stream = f"{options.prefix}:tasks:{kind}"
        # Where tasks of each organization wait: whose turn it is, what is known of the lines, who waits for a task.
        self._lines = [f"{options.prefix}:{name}:{{{self._stream}}}" for name in ("ring", "lines", "idle")]
        self._name = f"{socket.gethostname()}-{os.getpid()}-{random.randrange(1 << 32):x}"
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Has run return once the task in hand is finished. A signal handler may call it."""
        self._stopping.set()

    def run(self) -> None:
        """Works until stop. Redis may come and go."""
        groupless = False
        while not self._stopping.is_set():
            try:
                if groupless:
                    self._create_group()
                entry = self._next()
                if entry:
                    self._process(*entry)
                groupless = False
            except redis.exceptions.RedisError as error:
                # Another worker takes over what was in hand, once it counts as abandoned.
                self._space.clocks.forget()  # the next connection may lead to another server
                groupless = "NOGROUP" in str(error)
                if not groupless:
                    _log.warning("cannot read tasks: %s", error)
                    self._stopping.wait(random.uniform(0.5, 1))

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, _GROUP, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _next(self) -> Optional[_Entry]:
        """Returns an entry: its id, how often it was delivered, its fields. Abandoned ones come first."""
        taken = self._space.run("take.v1", [self._stream], [_GROUP, self._name, self._takeover])
        if taken:
            return taken[0], taken[1], _pairs(taken[2])
        read: Any = [""]
        while read and not read[0]:  # it asks to be asked again
            read = self._space.run("next.v1", [self._stream, *self._lines], [_GROUP, self._name, self._poll, 0])
        if read:
            return read[0], 1, _pairs(read[1])
        read = self._redis.xreadgroup(_GROUP, self._name, {self._stream: ">"}, count=1, block=self._poll)
        if not read:
            return None
        entry, fields = read[0][1][0]
        return entry, 1, fields

    def _hold(self, entry: str, idle: float, deliveries: int) -> bool:
        """Keeps or gives back an entry. False if another worker has it."""
        return bool(self._space.run("hold.v1", [self._stream], [_GROUP, self._name, entry, int(idle), deliveries]))

    def _process(self, entry: str, deliveries: int, fields: Mapping[str, str]) -> None:
        """Brings an entry to its end, or to its next attempt."""
        if not fields:  # the entry was deleted
            return self._acknowledge(entry)
        attempt = deliveries + earlier(fields)
        job: Optional[Job] = None
        try:
            job = Job(self._space, self._kind, fields, attempt)
            self._directory.admit(job.organization)
        except Refused as reason:
            return self._refuse(entry, attempt, fields, job, str(reason))
        ended = self._redis.get(job.end_key)
        if ended:  # a worker died between the terminal event and the acknowledgment
            if ended == "failed":
                self._bury(entry, attempt, fields, "failed")
            return self._acknowledge(entry)
        outcome = self._try(job, entry, deliveries)
        if outcome is None:
            return None
        how, code, terminal = outcome
        # Publishes the terminal event and remembers that, or learns that it was published before.
        if job.finish(how, terminal) == "failed":
            self._bury(entry, attempt, fields, code)
        return self._acknowledge(entry)

    def _refuse(
        self, entry: str, attempt: int, fields: Mapping[str, str], job: Optional[Job], reason: str
    ) -> None:
        _log.warning("entry %s refused: %s", entry, reason)
        # A suspended organization exists: those who look at the task learn that it has ended.
        if job is not None and reason == "organization_suspended":
            if job.finish("failed", job.failure("refused")) != "failed":
                return self._acknowledge(entry)
        self._bury(entry, attempt, fields, reason)
        return self._acknowledge(entry)

    def _try(self, job: Job, entry: str, deliveries: int) -> Optional[tuple[str, str, str]]:
        """Runs the handler. Returns how the task ends, with which code and event; None if it does not end here."""
        if job.attempt > self._options.attempts:
            return "failed", "crashed", job.failure("crashed")
        done = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(job, entry, deliveries, done))
        renewing.start()
        try:
            with organization_context(job.organization, job.user), tools_context(self._tools):
                result = _run(self._handler, job)
        except Lost:
            return None
        except GiveUp as failure:
            return "failed", str(failure), job.failure(str(failure))
        except Refused:
            return "failed", "refused", job.failure("refused")
        except Exception:
            _log.exception("task %s of kind %s failed", job.id, job.kind)
            if job.attempt >= self._options.attempts:
                return "failed", "failed", job.failure("failed")
            done.set()
            renewing.join()
            longest = min(self._options.backoff * 1000 * 2 ** min(job.attempt - 1, 30), self._takeover)
            self._hold(entry, self._takeover - longest * random.uniform(0.5, 1), deliveries)
            return None
        finally:
            done.set()
            renewing.join()
        try:
            return "complete", "", job.complete(result or {"type": "task_complete", "task_id": job.id})
        except (OrgcastError, AttributeError, TypeError, ValueError, RecursionError):
            _log.exception("task %s of kind %s returned no event", job.id, job.kind)
            return "failed", "bad_result", job.failure("bad_result")

    def _renew(self, job: Job, entry: str, deliveries: int, done: threading.Event) -> None:
        """Shows that this worker lives, for as long as the handler runs."""
        while not done.wait(self._takeover / 3000):
            try:
                if not self._hold(entry, 0, deliveries):
                    job.lost.set()
                    return
            except redis.exceptions.RedisError as error:
                _log.warning("claim not renewed: %s", error)

    def _bury(self, entry: str, deliveries: int, fields: Mapping[str, str], reason: str) -> None:
        dead = {**fields, "dead_reason": reason, "dead_entry": entry, "dead_deliveries": str(deliveries)}
        raw = {name.encode("utf-8", "surrogateescape"): text.encode("utf-8", "surrogateescape") for name, text in dead.items()}
        self._redis.xadd(f"{self._stream}:dead", raw, maxlen=10_000, approximate=True)

    def _acknowledge(self, entry: str) -> None:
        # In this order: an entry that is pending and no longer there is acknowledged by the worker that takes it over.
        self._redis.xdel(self._stream, entry)
        self._redis.xack(self._stream, _GROUP, entry)


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2]))


def _run(handler: Handler, job: Job) -> Optional[Event]:
    """Runs a handler, also one that is a coroutine function, in the current context."""

    async def finish(pending: Awaitable[Optional[Event]]) -> Optional[Event]:
        return await pending

    result = handler(job)
    return asyncio.run(finish(result)) if isinstance(result, Awaitable) else result


def main(
    handlers: Mapping[str, Handler],
    arguments: Optional[Sequence[str]] = None,
    *,
    tools: Optional[Mapping[str, Tool]] = None,
) -> None:
    """Runs a worker with settings from the command line, until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Runs tasks of Orgcast. It runs one at a time: start several processes.")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--redis-state", help="Redis server that holds the directory [--redis]")
    parser.add_argument("--cluster", action="store_true", help="--redis is a member of a Redis Cluster")
    parser.add_argument("--prefix", default=Options.prefix)
    parser.add_argument("--kind", choices=sorted(handlers), default=min(handlers))
    parser.add_argument("--directory", choices=["redis", "session"], default=Options.directory)
    parser.add_argument("--attempts", type=int, default=Options.attempts)
    for name in ("backoff", "takeover", "poll"):
        default = getattr(Options, name)
        parser.add_argument(f"--{name}", type=float, default=default, help=f"seconds [{default}]")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    # In a Cluster, redis-py logs every error with its traceback, also those that are handled here.
    logging.getLogger("redis.cluster").setLevel(logging.CRITICAL)
    options = Options(given.attempts, given.backoff, given.takeover, given.poll, given.prefix, given.directory)
    client = connect(given.redis, given.cluster, timeout=given.poll + 5)
    state = connect(given.redis_state) if given.redis_state else None
    worker = Worker(client, given.kind, handlers[given.kind], options, state=state, tools=tools)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: worker.stop())
    worker.run()
