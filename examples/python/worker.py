#!/usr/bin/python3
"""A worker for Orgcast's tasks, in Python. docs/tasks.md says why it does what it does.

    apt-get install python3-redis
    examples/python/worker.py --kind words

The kind is only a name here: put a handler of your own in HANDLERS. It serves one task at a time;
start as many processes as you have work for.
"""

import argparse
import base64
import hashlib
import json
import logging
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

import redis

GROUP = "workers"
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
EVENT_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
GROUP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# Python calls these printable, but they draw nothing, or stand for what nobody could read.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\ufffd\U000e0100-\U000e01ef ]")
MAX_PAYLOAD = 256 * 1024
MAX_EVENT = 256 * 1024
DAY = 24 * 3600
HISTORY = [1000, DAY * 1000]  # how many events a group's history keeps, and how long, in ms
SCRIPTS = Path(__file__).resolve().parents[2] / "clients" / "lua"


def is_user_id(text):
    """1 to 128 bytes of printable UTF-8 without spaces."""
    return text.isprintable() and 0 < len(text.encode()) <= 128 and not UNSEEN.search(text)


def user_group(user):
    """The name of a user's own group: job.publish(user_group(job.user), {"type": "note"})."""
    if IDENTIFIER.fullmatch(user):
        return f"user.{user}"
    digest = hashlib.sha256(user.encode()).digest()
    return "user.." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Refused(Exception):
    """The entry must not run. Its text is the stable reason."""


class GiveUp(Exception):
    """The task cannot be done, however often it is tried. Its text is a stable code for clients."""


class Lost(Exception):
    """The task has ended, or another worker has it."""


class Job:
    """One task, bound to its organization. There is no current organization elsewhere."""

    def __init__(self, worker, fields):
        self.organization = fields.get("organization_id", "")
        if not IDENTIFIER.fullmatch(self.organization):
            raise Refused("no_organization")
        self.id, self.group = fields.get("id", ""), fields.get("group", "")
        self.user, payload = fields.get("user_id", ""), fields.get("payload") or "null"
        key = fields.get("idempotency_key") or self.id
        if (
            fields.get("kind") != worker.kind
            or not IDENTIFIER.fullmatch(self.id)
            or not GROUP_NAME.fullmatch(self.group)
            or not GROUP_NAME.fullmatch(key)
            or (self.user and not is_user_id(self.user))
            or len(payload.encode("utf-8", "surrogateescape")) > MAX_PAYLOAD
        ):
            raise Refused("malformed")
        try:
            payload.encode()  # surrogates stand for bytes that were no UTF-8
            self.payload = json.loads(payload, parse_constant=self._no_constant)
        except (ValueError, RecursionError):
            raise Refused("malformed") from None
        self.worker, self.lost = worker, threading.Event()
        self.space = f"{worker.prefix}:{{{self.organization}}}"  # of keys
        self.channels = f"{worker.channels}:{{{self.organization}}}"
        self.end = f"{self.space}:task:{worker.kind}:{self.id}"

    @staticmethod
    def _no_constant(name):
        raise ValueError(name)  # NaN and the like are no JSON

    def event(self, fields):
        """The payload of an event. Nobody publishes for another organization."""
        if fields.get("organization_id", self.organization) != self.organization:
            raise ValueError("event of another organization")
        if not isinstance(fields.get("type"), str) or not EVENT_TYPE.fullmatch(fields["type"]):
            raise ValueError("event without a valid type")
        text = json.dumps({**fields, "organization_id": self.organization}, allow_nan=False)
        if len(text) > MAX_EVENT:
            raise ValueError("event is too large")
        return text

    def progress(self, fields):
        """Records and publishes an event in the task's group. Raises Lost if there is no point in going on."""
        self.publish(self.group, fields)

    def publish(self, group, fields):
        """The same in another group of the organization."""
        if not GROUP_NAME.fullmatch(group):
            raise ValueError("not the name of a group")
        if self.lost.is_set() or not self.record("progress", group, self.event(fields)):
            raise Lost()

    def finish(self, how, terminal):
        """Ends the task, or learns that it has ended. Returns how."""
        return self.record("finish", self.group, terminal, how, 7 * DAY * 1000)

    def record(self, script, group, event, *rest):
        keys = [self.end, f"{self.space}:history:{group}"]
        args = [f"{self.channels}:group:{group}", event, *HISTORY, *rest]
        clocks = self.worker.clocks
        try:
            return self.worker.scripts[script](keys=keys, args=[*args, clocks.latest(self.end)])
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("LATE"):
                raise
            clocks.forget()  # our idea of them was wrong; nothing has happened
            return self.worker.scripts[script](keys=keys, args=[*args, clocks.latest(self.end)])


class Clocks:
    """Knows the time by each server's own clock, so that a server that hung runs no script too late."""

    def __init__(self, client, timeout):
        self.client, self.timeout, self.known = client, timeout, {}

    def latest(self, key):
        """The moment at which the worker gives up, in ms by the clock of the server that has the key."""
        name, server = "", self.client
        if isinstance(server, redis.RedisCluster):
            node = server.get_node_from_key(key)
            name, server = node.name, server.get_redis_connection(node)
        told, at = self.known.get(name, (0, -60))
        if time.monotonic() - at >= 60:
            seconds, microseconds = server.time()
            told, at = seconds * 1000 + microseconds // 1000, time.monotonic()
            self.known[name] = (told, at)
        return told + int((time.monotonic() - at + self.timeout) * 1000)

    def forget(self):
        self.known.clear()


class Worker:
    def __init__(self, options, handler):
        self.kind, self.prefix, self.handler = options.kind, options.prefix, handler
        self.attempts, self.takeover, self.poll = options.attempts, int(options.takeover * 1000), int(options.poll * 1000)
        self.backoff, self.trusting = options.backoff * 1000, options.directory == "session"
        self.stream = f"{self.prefix}:tasks:{self.kind}"
        # Where tasks of each organization wait: whose turn it is, what is known of the lines, who waits for a task.
        self.lines = [f"{self.prefix}:{name}:{{{self.stream}}}" for name in ("ring", "lines", "idle")]
        self.name = f"{socket.gethostname()}-{os.getpid()}-{random.randrange(1 << 32):x}"
        client = redis.RedisCluster if options.cluster else redis.Redis
        # There the library prints the trace of every error, also of those that are handled here.
        logging.getLogger("redis.cluster").setLevel(logging.CRITICAL)
        timeout = options.poll + 5
        settings = {"decode_responses": True, "encoding_errors": "surrogateescape", "socket_timeout": timeout}
        self.redis = client.from_url(options.redis, **settings)
        self.clocks = Clocks(self.redis, timeout)
        # Whether an organization is active may be known to a separate server.
        self.state = redis.Redis.from_url(options.redis_state, **settings) if options.redis_state else self.redis
        # Databases have their own keys, but channels in common. A Cluster has one database.
        database = 0 if options.cluster else self.redis.connection_pool.connection_kwargs.get("db") or 0
        self.channels = f"{self.prefix}@{database}" if database else self.prefix
        self.scripts = {
            name: self.redis.register_script((options.lua / f"{name}.v1.lua").read_text(encoding="utf-8"))
            for name in ("take", "next", "hold", "finish", "progress")
        }
        self.stopping = False

    def run(self):
        """Works until it is told to stop; the task in hand is finished first. Redis may come and go."""
        groupless = False
        while not self.stopping:
            try:
                if groupless:
                    self.create_group()
                entry = self.next()
                if entry:
                    self.process(*entry)
                groupless = False
            except redis.exceptions.RedisError as error:
                # Unfinished work is taken over by the first worker that sees it once it counts as abandoned.
                self.clocks.forget()  # the next connection may lead to another server
                groupless = "NOGROUP" in str(error)
                if not groupless:
                    print(f"Redis does not do as it should: {error}", file=sys.stderr)
                    time.sleep(random.uniform(0.5, 1))

    def create_group(self):
        try:
            self.redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def next(self):
        """An entry: its id, how often it was delivered, its fields. Abandoned ones come first."""
        taken = self.scripts["take"](keys=[self.stream], args=[GROUP, self.name, self.takeover])
        if taken:
            flat = taken[2]
            return taken[0], taken[1], dict(zip(flat[::2], flat[1::2]))
        read = [""]
        while read and not read[0]:  # it asks to be asked again
            read = self.scripts["next"](keys=[self.stream, *self.lines], args=[GROUP, self.name, self.poll, 0])
        if read:
            flat = read[1]
            return read[0], 1, dict(zip(flat[::2], flat[1::2]))
        read = self.redis.xreadgroup(GROUP, self.name, {self.stream: ">"}, count=1, block=self.poll)
        if not read:
            return None
        identifier, fields = read[0][1][0]
        return identifier, 1, fields

    def hold(self, entry, idle, deliveries):
        """Keeps or gives back an entry. False if it is not ours anymore."""
        return bool(self.scripts["hold"](keys=[self.stream], args=[GROUP, self.name, entry, int(idle), deliveries]))

    def check_organization(self, organization):
        """Raises Refused unless the organization is known and active."""
        if self.trusting:
            return
        status = self.state.hget(f"{self.prefix}:{{{organization}}}:org", "status")
        if status is None:
            raise Refused("organization_unknown")
        if status != "active":
            raise Refused("organization_suspended")

    def process(self, entry, deliveries, fields):
        """Brings an entry to its end, or to its next attempt."""
        if not fields:
            return self.acknowledge(entry)  # somebody deleted it
        before = fields.get("delivered_before", "")  # it was put back into its line
        attempt = deliveries + (int(before) if re.fullmatch("[0-9]{1,6}", before) else 0)
        job = None
        try:
            job = Job(self, fields)
            self.check_organization(job.organization)
        except Refused as reason:
            print(f"entry {entry} refused: {reason}", file=sys.stderr)
            # A suspended organization exists: those who look at the task learn that it has ended.
            if str(reason) == "organization_suspended":
                terminal = job.event({"type": "task_failed", "task_id": job.id, "code": "refused"})
                if job.finish("failed", terminal) != "failed":
                    return self.acknowledge(entry)
            self.bury(entry, attempt, fields, str(reason))
            return self.acknowledge(entry)
        ended = self.redis.get(job.end)
        if ended:  # a worker died between the terminal event and the acknowledgment
            if ended == "failed":
                self.bury(entry, attempt, fields, "failed")
            return self.acknowledge(entry)

        done = threading.Event()
        renewing = threading.Thread(target=self.renew, args=(job, entry, deliveries, done))
        renewing.start()
        how, code, terminal = "failed", "crashed", None
        try:
            if attempt <= self.attempts:
                terminal = job.event(self.handler(job) or {"type": "task_complete", "task_id": job.id})
                how = "complete"
        except Lost:
            return None
        except GiveUp as failure:
            code = str(failure)
        except Exception:
            code = "failed"
            traceback.print_exc()
            if attempt < self.attempts:
                delay = min(self.backoff * 2 ** (attempt - 1), self.takeover) * random.uniform(0.5, 1)
                done.set()
                renewing.join()
                self.hold(entry, self.takeover - delay, deliveries)
                return None
        finally:
            done.set()
            renewing.join()
        if how == "failed":
            terminal = job.event({"type": "task_failed", "task_id": job.id, "code": code})
        # Publishes the terminal event and remembers that, or learns that it was published before.
        if job.finish(how, terminal) == "failed":
            self.bury(entry, attempt, fields, code)
        return self.acknowledge(entry)

    def renew(self, job, entry, deliveries, done):
        """Shows that this worker lives, for as long as the handler runs."""
        while not done.wait(self.takeover / 3000):
            try:
                if not self.hold(entry, 0, deliveries):
                    job.lost.set()
                    return
            except redis.exceptions.RedisError as error:
                print(f"claim not renewed: {error}", file=sys.stderr)

    def bury(self, entry, deliveries, fields, reason):
        dead = {**fields, "dead_reason": reason, "dead_entry": entry, "dead_deliveries": deliveries}
        dead = {k: v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for k, v in dead.items()}
        self.redis.xadd(f"{self.stream}:dead", dead, maxlen=10_000, approximate=True)

    def acknowledge(self, entry):
        # In this order: what is pending and no longer there is acknowledged by the worker that takes it over.
        self.redis.xdel(self.stream, entry)
        self.redis.xack(self.stream, GROUP, entry)


def count_words(job):
    """Counts the words of {"text": ...}, sentence by sentence."""
    if not isinstance(job.payload, dict) or not isinstance(job.payload.get("text"), str):
        raise GiveUp("no_text")
    words = 0
    sentences = [s for s in re.split(r"[.!?]", job.payload["text"]) if s.strip()]
    for number, sentence in enumerate(sentences, 1):
        words += len(sentence.split())
        job.progress({"type": "words_progress", "task_id": job.id, "done": number, "of": len(sentences)})
    return {"type": "task_complete", "task_id": job.id, "words": words}


HANDLERS = {"words": count_words}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--redis-state", help="Redis server that holds the directory; default: --redis")
    parser.add_argument("--cluster", action="store_true", help="--redis is a member of a Redis Cluster")
    parser.add_argument("--prefix", default="orgcast")
    parser.add_argument("--kind", choices=sorted(HANDLERS), default="words")
    parser.add_argument("--directory", choices=["redis", "session"], default="redis")
    parser.add_argument("--attempts", type=int, default=5)
    parser.add_argument("--backoff", type=float, default=1, help="seconds")
    parser.add_argument("--takeover", type=float, default=30, help="seconds")
    parser.add_argument("--poll", type=float, default=1, help="seconds")
    parser.add_argument("--lua", type=Path, default=SCRIPTS, help="directory of the scripts")
    options = parser.parse_args()
    worker = Worker(options, HANDLERS[options.kind])

    def stop(_signal, _frame):
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()


if __name__ == "__main__":
    main()
