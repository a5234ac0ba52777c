"""Measures the site under Channels (daphne, uvicorn) and under Orgcast, one after the other, and prints a table.

It starts everything itself, on loopback: a Redis, the site, and a gateway for Orgcast. Each round measures every
server in turn, so that all of them meet the same load of the machine. Run it with the Python that has Django:

    python3 compare.py --gateway ../../bin/gateway
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

from load import PATIENCE, Program, Site, Socket, asking, connect, connect_all, free_port, gateway

SERVERS = ("daphne", "uvicorn", "orgcast")

# What a Celery task would do, at a steady rate. Prints how many it has sent.
PUBLISHER = """
import time
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

async def publish():
    layer, began, sent = get_channel_layer(), time.monotonic(), 0
    while time.monotonic() - began < {seconds}:
        await layer.group_send("report_7", {{
            "type": "report_update", "organization_id": "acme", "status": "running", "percent": sent,
        }})
        sent += 1
        pause = began + sent / {rate} - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    print(sent)

async_to_sync(publish)()
"""


class Stack:
    """The site under one server, with what belongs to it."""

    def __init__(self, server: str, site: Site, binary: str, undo: ExitStack) -> None:
        orgcast = server == "orgcast"
        self.port, private = free_port(), free_port()
        self._site, self._serves = site, free_port() if orgcast else self.port
        self.env = site.env("shop.settings_orgcast" if orgcast else "shop.settings", private)
        if server == "uvicorn":
            command = ["uvicorn", "--port", str(self._serves), "--no-access-log", "--log-level", "warning", "shop.asgi:application"]
        else:
            command = ["daphne", "-b", "127.0.0.1", "-p", str(self._serves), "-v", "0", "shop.asgi:application"]
        self._programs = [Program([sys.executable, "-m", *command], self._serves, site.folder / f"{server}.log", self.env, undo)]
        if orgcast:
            start = gateway(binary, self.port, private, site.redis, *asking(self._serves))
            self._programs.append(Program(start, self.port, site.folder / "gateway.log", self.env, undo))

    def cpu(self) -> float:
        """The processor time of all its processes, in seconds."""
        return sum(one.cpu() for one in self._programs)

    def memory(self) -> int:
        """The resident memory of the program that has the sockets, in bytes."""
        return self._programs[-1].memory()

    def sessions(self, count: int) -> list[str]:
        """Makes sessions and returns their cookies."""
        return [f"sessionid={key}" for key in self._site.sessions(count, self.env)]

    async def publish(self, rate: float, seconds: float) -> int:
        """Publishes events to all, and returns how many it has sent."""
        code = "import django; django.setup()\n" + PUBLISHER.format(rate=rate, seconds=seconds)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=self.env, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return int(out)

    def log_out(self, cookie: str) -> None:
        """Logs a session out."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._serves}/sign-out", headers={"Cookie": cookie})
        urllib.request.urlopen(request, timeout=PATIENCE).close()


async def quiet(sockets: list[Socket]) -> int:
    """Waits until no more events come, and returns how many have come."""
    before = -1
    while (count := sum(one.events for one in sockets)) != before:
        before = count
        await asyncio.sleep(2)
    return count


async def measure(stack: Stack, o: argparse.Namespace) -> dict[str, float]:
    """Returns the figures of one server in one round."""
    cookies = stack.sessions(o.sockets)
    with ExitStack() as undo:
        first, _ = await connect(stack.port, cookies[0])  # what the first one of all makes the server load
        undo.callback(first.close)
        memory, cpu, began = stack.memory(), stack.cpu(), time.monotonic()
        sockets = [one for one, _ in await connect_all(stack.port, cookies)]
        for one in sockets:
            undo.callback(one.close)
        took, spent = time.monotonic() - began, stack.cpu() - cpu
        await asyncio.sleep(1)
        found = {"handshakes": len(sockets) / took, "handshake_cpu": spent / len(sockets) * 1e3, "memory": (stack.memory() - memory) / len(sockets) / 1024}
        for name, rate in (("steady", o.rate), ("fast", o.fast)):
            had, cpu = await quiet(sockets), stack.cpu()
            sent = await stack.publish(rate, o.seconds)
            got = await quiet(sockets) - had
            found[f"{name}_cpu"] = (stack.cpu() - cpu) / max(got, 1) * 1e6
            found[f"{name}_got"] = 100 * got / (sent * len(sockets))
        began = time.monotonic()
        stack.log_out(cookies[1])
        await asyncio.wait([sockets[1].closed], timeout=o.logout)
        found["logout"] = time.monotonic() - began if sockets[1].closed.done() else float("inf")
        return found


def median(values: list[float], digits: int, unit: str) -> str:
    if float("inf") in values:
        return "stays open"
    return f"{statistics.median(values):,.{digits}f}{unit} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="path of the gateway's binary")
    parser.add_argument("--servers", default=",".join(SERVERS), help="what to measure, comma-separated [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each [%(default)s]")
    parser.add_argument("--sockets", type=int, default=200, help="open sockets, each with a session [%(default)s]")
    parser.add_argument("--rate", type=float, default=20, help="events per second to all of them [%(default)s]")
    parser.add_argument("--fast", type=float, default=400, help="events per second that are too many for some [%(default)s]")
    parser.add_argument("--seconds", type=float, default=5, help="how long to publish at each rate [%(default)s]")
    parser.add_argument("--logout", type=float, default=10, help="seconds to wait for a socket whose session was logged out [%(default)s]")
    o = parser.parse_args()
    servers = o.servers.split(",")
    if not set(servers) <= set(SERVERS):
        parser.error(f"--servers: must be some of {', '.join(SERVERS)}")
    found: dict[str, list[dict[str, float]]] = {server: [] for server in servers}
    with ExitStack() as undo:
        site = Site(undo)
        for number in range(o.rounds):
            for name in servers:
                print(f"round {number + 1} of {o.rounds}: {name}", file=sys.stderr)
                site.reset()
                with ExitStack() as running:
                    stack = Stack(name, site, o.gateway, running)
                    found[name].append(asyncio.run(measure(stack, o)))
    rows = [
        (f"CPU per delivery, {o.sockets} sockets, {o.rate:g} events/s", "steady_cpu", 0, " µs"),
        (f"CPU per delivery, {o.fast:g} events/s", "fast_cpu", 0, " µs"),
        (f"delivered of those sent, {o.rate:g} events/s", "steady_got", 0, " %"),
        (f"delivered of those sent, {o.fast:g} events/s", "fast_got", 0, " %"),
        ("memory per connection", "memory", 0, " KiB"),
        ("handshakes per second, 16 at a time", "handshakes", 0, ""),
        ("CPU per handshake", "handshake_cpu", 1, " ms"),
        ("from logout to closed", "logout", 2, " s"),
    ]
    print(f"| | {' | '.join(servers)} |")
    print(f"| --- |{' --- |' * len(servers)}")
    for title, key, digits, unit in rows:
        cells = (median([one[key] for one in found[name]], digits, unit) for name in servers)
        print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.URLError as error:
        raise SystemExit(f"compare: {error}") from None
