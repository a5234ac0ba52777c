"""Measures what many sockets cost the site and the gateway when the gateway asks the site about sessions, and what
wrong answers do to them. Prints a table next to the gateway's own signed cookies, about which nobody is asked.

It starts everything itself, on loopback: a Redis, the site with two workers, and gateways. Between the gateway and
the site stands a proxy that spoils a part of the answers in the last measurement. Meanwhile some sessions are deleted
from the database, which nobody announces. It fails if anybody else is logged out, or if one of these sockets stays
open beyond the deadline. Run it with the Python that has Django and uvicorn:

    python3 scale.py --gateway ../../bin/gateway
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field

from load import Program, Site, Socket, asking, connect, connect_all, free_port, gateway

COOKIE_KEY = "cookie-key-of-more-than-thirty-two-bytes"
PERIOD, DEADLINE, BATCH = 5, 30, 256
SPOILED = ("late", "no answer", "error page", "not JSON", "too few entries", "no list", "entry of a wrong form")
TRY_AGAIN_LATER = 1013
LATE = 10  # seconds; the gateway gives up earlier


@dataclass
class Proxy:
    """Passes the gateway's questions on to the site, and spoils the share of them that it is told to."""

    site: int
    share: float = 0
    answered: int = 0
    spoiled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPOILED, 0))

    async def serve(self) -> int:
        """Starts it and returns its port."""
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while question := await request_of(reader):
                kind = random.choice(SPOILED) if random.random() < self.share else ""
                if not await self._answer(kind, question, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway has given up, or ended
        finally:
            writer.close()

    async def _answer(self, kind: str, question: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answers one question. It returns whether the connection can take another one."""
        if kind:
            self.spoiled[kind] += 1
        else:
            self.answered += 1
        if kind == "no answer":
            return False
        answer = await asyncio.to_thread(self._ask, question)
        if kind == "late":
            await asyncio.sleep(LATE)
        writer.write(spoil(kind, answer))
        await writer.drain()
        return True

    def _ask(self, question: bytes) -> str:
        head, body = question.split(b"\r\n\r\n", 1)
        key = re.search(rb"(?i)\r\nauthorization: *([^\r]*)", head)
        headers = {"Authorization": key[1].decode() if key else "", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.site}/orgcast/identity", body, headers)
        with urllib.request.urlopen(request, timeout=LATE) as answer:
            return str(answer.read(), "utf-8")


def spoil(kind: str, answer: str) -> bytes:
    """Returns the response that passes an answer on, or the one that comes instead."""
    identities = json.loads(answer)["identities"]
    status, body = {
        "error page": (500, "<h1>Server Error</h1>"),
        "not JSON": (200, "<html>"),
        "too few entries": (200, json.dumps({"identities": identities[1:]})),
        "no list": (200, json.dumps({"identities": {"code": "none"}})),
        "entry of a wrong form": (200, json.dumps({"identities": [7, *identities[1:]]})),
    }.get(kind, (200, answer))
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Reads a request whose head tells its length. It returns nothing at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


class Sockets:
    """Open sockets at one gateway, and what they cost."""

    def __init__(self, programs: dict[str, Program]) -> None:
        self._programs = programs
        self.found: dict[str, float] = {}
        self.all: list[Socket] = []

    async def open(self, port: int, cookies: list[str], undo: ExitStack) -> None:
        """Opens a socket with each cookie."""
        first, _ = await connect(port, cookies[0])  # what the first one of all makes the programs load
        undo.callback(first.close)
        memory, cpu = self._programs["gateway"].memory(), self._cpu()
        made = await connect_all(port, cookies)
        for one, _ in made:
            undo.callback(one.close)
        for name, spent in self._cpu().items():
            self.found[f"{name} handshake"] = (spent - cpu[name]) / len(made) * 1e6
        took = sorted(seconds for _, seconds in made)
        self.found["p50"], self.found["p99"] = (took[math.ceil(len(took) * part) - 1] * 1e3 for part in (0.5, 0.99))
        await asyncio.sleep(2)
        self.found["memory"] = (self._programs["gateway"].memory() - memory) / len(made) / 1024
        self.all = [one for one, _ in made]

    async def rest(self, seconds: float, private: int) -> None:
        """Lets them be open for a while."""
        cpu, calls, cookies = self._cpu(), *questions(private)
        await asyncio.sleep(seconds)
        more, asked = questions(private)
        self.found["questions"], self.found["cookies"] = (more - calls) / seconds, (asked - cookies) / seconds
        for name, spent in self._cpu().items():
            self.found[f"{name} rest"] = (spent - cpu[name]) / seconds * 100

    def _cpu(self) -> dict[str, float]:
        return {name: program.cpu() for name, program in self._programs.items()}


def questions(private: int) -> tuple[float, float]:
    """How many calls the gateway has made to the site, and about how many cookies in all."""
    with urllib.request.urlopen(f"http://127.0.0.1:{private}/metrics") as answer:
        text = answer.read().decode()
    calls = sum(map(float, re.findall(r'^orgcast_outgoing_calls_total\{purpose="session",.*\} (\S+)$', text, re.M)))
    cookies = re.search(r"^orgcast_session_cookies_asked_total (\S+)$", text, re.M)
    return calls, float(cookies[1]) if cookies else 0


async def delete(site: Site, keys: list[str], sockets: list[Socket], seconds: float) -> list[float]:
    """Deletes sessions, one after the other, and returns how long each socket stayed open after that."""
    deleted = []
    for key in keys:
        with sqlite3.connect(site.folder / "db.sqlite3", timeout=60) as database:
            database.execute("DELETE FROM django_session WHERE session_key = ?", [key])  # not by Django, which would announce it
        database.close()
        deleted.append(time.monotonic())
        await asyncio.sleep(seconds / len(keys))
    await asyncio.wait([one.closed for one in sockets], timeout=DEADLINE + PERIOD)
    return [one.closed.result() - at if one.closed.done() else math.inf for one, at in zip(sockets, deleted)]


async def signed(site: Site, o: argparse.Namespace) -> dict[str, float]:
    """Measures sockets with signed cookies."""
    with ExitStack() as undo:
        settings = ["--session-keys", COOKIE_KEY, "--directory", "session", "--lease-period", f"{PERIOD}s"]
        port, private = free_port(), free_port()
        program = Program(gateway(o.gateway, port, private, site.redis, *settings), port, site.folder / "signed.log", dict(os.environ), undo)
        mint = [o.gateway, "session", "mint", "--session-keys", COOKIE_KEY, "ada", "acme"]
        cookie = subprocess.run(mint, check=True, capture_output=True, text=True).stdout.strip()
        sockets = Sockets({"gateway": program})
        await sockets.open(port, [cookie] * o.sockets, undo)
        await sockets.rest(o.rest, private)
        return sockets.found


async def asked(site: Site, o: argparse.Namespace, spoiled: float) -> dict[str, float]:
    """Measures sockets about which the site is asked. It spoils a share of the answers."""
    site.reset()
    with ExitStack() as undo:
        port, private, serves = free_port(), free_port(), free_port()
        env = site.env("shop.settings_orgcast", private)
        command = [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(serves), "--no-access-log", "--log-level", "warning", "shop.asgi:application"]
        programs = {"site": Program(command, serves, site.folder / "site.log", env, undo)}
        proxy = Proxy(serves)
        settings = [*asking(await proxy.serve() if spoiled else serves), "--lease-period", f"{PERIOD}s", "--lease-deadline", f"{DEADLINE}s"]
        programs["gateway"] = Program(gateway(o.gateway, port, private, site.redis, *settings), port, site.folder / "asking.log", env, undo)
        keys = site.sessions(o.sockets, env)
        sockets = Sockets(programs)
        await sockets.open(port, [f"sessionid={key}" for key in keys], undo)
        if not spoiled:
            await sockets.rest(o.rest, private)
            return sockets.found
        proxy.share, proxy.answered = spoiled, 0
        ending = sockets.all[1 : 1 + o.deleted]
        stayed = await delete(site, keys[1 : 1 + o.deleted], ending, o.rest)
        found = sockets.found
        found["spoiled"] = sum(proxy.spoiled.values())
        found["share"] = 100 * found["spoiled"] / (found["spoiled"] + proxy.answered)
        found["stayed"], found["longest"] = sum(seconds > DEADLINE for seconds in stayed), max(stayed)
        others = [one.code for one in sockets.all if one.closed.done() and one not in ending]
        found["unconfirmed"] = others.count(TRY_AGAIN_LATER)
        found["wrong"] = len(others) - others.count(TRY_AGAIN_LATER)
        print(", ".join(f"{count} {kind}" for kind, count in proxy.spoiled.items()), file=sys.stderr)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="path of the gateway's binary")
    parser.add_argument("--sockets", type=int, default=10000, help="open sockets, each with a session of its own member [%(default)s]")
    parser.add_argument("--rest", type=float, default=60, help="seconds to measure open sockets [%(default)s]")
    parser.add_argument("--spoiled", type=float, default=1, help="percent of the answers to spoil [%(default)s]")
    parser.add_argument("--deleted", type=int, default=100, help="sessions to delete meanwhile [%(default)s]")
    o = parser.parse_args()
    with ExitStack() as undo:
        site = Site(undo)
        columns = []
        for name, run in (("signed cookies", signed(site, o)), ("site asked", asked(site, o, 0)), ("answers spoiled", asked(site, o, o.spoiled / 100))):
            print(f"measuring: {name}", file=sys.stderr)
            columns.append(asyncio.run(run))
    rows = [
        ("CPU of the gateway per handshake", "gateway handshake", "{:,.0f} µs"),
        ("CPU of the site per handshake", "site handshake", "{:,.0f} µs"),
        ("handshake, 16 at a time, p50", "p50", "{:.1f} ms"),
        ("handshake, 16 at a time, p99", "p99", "{:.1f} ms"),
        ("memory of the gateway per connection", "memory", "{:.1f} KiB"),
        ("CPU of the gateway while they are open", "gateway rest", "{:.1f} %"),
        ("CPU of the site while they are open", "site rest", "{:.1f} %"),
        (f"questions per second, computed {o.sockets / PERIOD / BATCH:.1f}", "questions", "{:.1f}"),
        (f"cookies asked about per second, computed {o.sockets / PERIOD:.0f}", "cookies", "{:.0f}"),
        ("answers spoiled", "spoiled", "{:.0f}"),
        ("share of the answers", "share", "{:.1f} %"),
        (f"sockets of {o.deleted} deleted sessions that stayed longer than {DEADLINE} s", "stayed", "{:.0f}"),
        ("longest stay after the deletion", "longest", "{:.1f} s"),
        ("other sockets that were logged out", "wrong", "{:.0f}"),
        (f"other sockets that nobody could confirm for {DEADLINE} s, told to come back", "unconfirmed", "{:.0f}"),
    ]
    print(f"| {o.sockets} sockets | signed cookies | site asked | site asked, {o.spoiled:g} % of the answers spoiled |")
    print("| --- | --- | --- | --- |")
    for title, key, form in rows:
        print(f"| {title} | {' | '.join(form.format(found[key]) if key in found else '–' for found in columns)} |")
    if columns[2]["stayed"] or columns[2]["wrong"]:
        raise SystemExit("scale: a promise was broken")


if __name__ == "__main__":
    main()
