"""Measures the site under Channels (daphne, uvicorn) and under Orgcast, one after the other, and prints a table.

It starts everything itself, on loopback: a Redis, the site, and a gateway for Orgcast. Each round measures every
server in turn, so that all of them meet the same load of the machine. Run it with the Python that has Django:

    python3 compare.py --gateway ../../bin/gateway
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent.parent / "clients" / "python" / "src"
PATIENCE = 60
SESSION_KEY, PUBLISH_KEY = "session-key-of-thirty-two-bytes!", "publish-key-of-thirty-two-bytes!"
MARK = b'"percent"'
SERVERS = ("daphne", "uvicorn", "orgcast")

# Sessions of ada in acme, as a login leaves them; their keys go to a file.
SESSIONS = """
import sys
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
store = import_module(settings.SESSION_ENGINE).SessionStore
ada = get_user_model().objects.get(username="ada")
with open({path!r}, "w") as out:
    for _ in range({count}):
        session = store()
        session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(ada.pk), settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY], session["active_organization"] = ada.get_session_auth_hash(), "acme"
        session.save()
        print(session.session_key, file=out)
"""

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


class Socket(asyncio.Protocol):
    """A page's socket, which counts the events that it gets."""

    def __init__(self, path: str, port: int, key: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Origin: http://127.0.0.1:{port}\r\nCookie: sessionid={key}\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        self.opened, self.closed = loop.create_future(), loop.create_future()
        self.events = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.opened.done():
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            head, data = data.split(b"\r\n\r\n", 1)
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.opened.set_exception(ConnectionError(head.split(b"\r\n")[0].decode()))
                return
            self.opened.set_result(None)
        while len(data) >= 2:
            length, start = data[1] & 0x7F, 2
            if length == 126:
                if len(data) < 4:
                    break
                length, start = struct.unpack("!H", data[2:4])[0], 4
            if len(data) < start + length:
                break
            payload = data[start : start + length]
            if data[0] & 0x0F == 9:  # a ping
                self._transport.write(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)  # type: ignore[attr-defined]
            elif data[0] & 0x0F == 8:
                self._ended()
            elif MARK in payload:
                self.events += 1
            data = data[start + length :]
        self._rest = data

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed"))
        self._ended()

    def _ended(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        self._transport.close()


async def connect(port: int, key: str) -> Socket:
    """Opens a socket, and comes back as a page does that is told to."""
    deadline = time.monotonic() + PATIENCE
    while True:
        made = await asyncio.get_running_loop().create_connection(lambda: Socket("/ws/report/7/", port, key), "127.0.0.1", port)
        try:
            await made[1].opened
            return made[1]
        except ConnectionError:
            made[1].close()
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def connect_all(port: int, keys: list[str], at_once: int = 16) -> list[Socket]:
    """Opens a socket for each session, so many at a time."""
    places = asyncio.Semaphore(at_once)

    async def one(key: str) -> Socket:
        async with places:
            return await connect(port, key)

    return list(await asyncio.gather(*map(one, keys)))


class Stack:
    """The site under one server, with what belongs to it."""

    def __init__(self, server: str, folder: Path, redis: int, gateway: str, undo: ExitStack) -> None:
        self.server, self._undo, self._folder = server, undo, folder
        orgcast = server == "orgcast"
        self.port = free_port()
        private, site = free_port(), self.port if not orgcast else free_port()
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{HERE}:{PACKAGE}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "shop.settings_orgcast" if orgcast else "shop.settings",
            "SHOP_DB": str(folder / "db.sqlite3"),
            "SHOP_REDIS": f"redis://127.0.0.1:{redis}",
            "SHOP_GATEWAY": f"http://127.0.0.1:{private}",
            "SHOP_SESSION_KEY": SESSION_KEY,
            "SHOP_PUBLISH_KEY": PUBLISH_KEY,
        }
        self.site = site
        if server == "uvicorn":
            command = ["-m", "uvicorn", "--port", str(site), "--no-access-log", "--log-level", "warning", "shop.asgi:application"]
        else:
            command = ["-m", "daphne", "-b", "127.0.0.1", "-p", str(site), "-v", "0", "shop.asgi:application"]
        self.pids = [self._start([sys.executable, *command], site)]
        if orgcast:
            self.pids.append(self._start([
                gateway, "serve", "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{private}",
                "--redis", f"redis://127.0.0.1:{redis}", "--session-store", "http", "--session-cookie", "sessionid",
                "--session-cookie-pick", "last", "--session-url", f"http://127.0.0.1:{site}/orgcast/identity",
                "--session-url-key", SESSION_KEY, "--publish-key", PUBLISH_KEY, "--origins", f"http://127.0.0.1:{self.port}",
                "--lease-deadline", "2m", "--max-per-user", "100000", "--handshakes-per-second", "100000",
                "--routes-file", str(HERE / "routes.yaml"),
            ], self.port))

    def _start(self, command: list[str], port: int) -> int:
        log = self._undo.enter_context((self._folder / f"{self.server}-{port}.log").open("wb"))
        process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        self._undo.callback(process.wait)
        self._undo.callback(process.kill)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return process.pid
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not start: {(self._folder / f'{self.server}-{port}.log').read_text()}") from None
                time.sleep(0.05)

    def cpu(self) -> float:
        """The processor time of all its processes, in seconds."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """The resident memory of the process that has the sockets, in bytes."""
        return int(Path(f"/proc/{self.pids[-1]}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def sessions(self, count: int) -> list[str]:
        """Makes sessions and returns their keys."""
        path = self._folder / f"{self.server}.keys"
        code = SESSIONS.format(path=str(path), count=count)
        subprocess.run([sys.executable, str(HERE / "manage.py"), "shell", "-c", code], env=self.env, check=True)
        return path.read_text().split()

    async def publish(self, rate: float, seconds: float) -> int:
        """Publishes events to all, and returns how many it has sent."""
        code = "import django; django.setup()\n" + PUBLISHER.format(rate=rate, seconds=seconds)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=self.env, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return int(out)

    def log_out(self, key: str) -> None:
        """Logs a session out."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.site}/sign-out", headers={"Cookie": f"sessionid={key}"})
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
    keys = stack.sessions(o.sockets)
    async with AsyncExitStack() as undo:
        first = await connect(stack.port, keys[0])  # what the first one of all makes the server load
        undo.callback(first.close)
        memory, cpu, began = stack.memory(), stack.cpu(), time.monotonic()
        sockets = await connect_all(stack.port, keys)
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
        stack.log_out(keys[1])
        await asyncio.wait([sockets[1].closed], timeout=o.logout)
        found["logout"] = time.monotonic() - began if sockets[1].closed.done() else float("inf")
        return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    found: dict[str, list[dict[str, float]]] = {server: [] for server in servers}
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        redis = free_port()
        server = subprocess.Popen(["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL)
        undo.callback(server.wait)
        undo.callback(server.kill)
        env = {**os.environ, "PYTHONPATH": f"{HERE}:{PACKAGE}", "SHOP_DB": str(folder / "empty.sqlite3"), "DJANGO_SETTINGS_MODULE": "shop.settings"}
        manage = [sys.executable, str(HERE / "manage.py")]
        subprocess.run([*manage, "migrate", "--run-syncdb", "--verbosity", "0"], env=env, check=True)
        subprocess.run([*manage, "shell"], env=env, check=True, input=(HERE / "seed.py").read_bytes())
        for number in range(o.rounds):
            for name in servers:
                print(f"round {number + 1} of {o.rounds}: {name}", file=sys.stderr)
                shutil.copy(folder / "empty.sqlite3", folder / "db.sqlite3")
                with ExitStack() as running:
                    stack = Stack(name, folder, redis, o.gateway, running)
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
