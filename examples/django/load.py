"""What the scripts here that measure the site have in common: the programs that they start, sessions, and sockets."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent.parent / "clients" / "python" / "src"
PATIENCE = 60
SESSION_KEY, PUBLISH_KEY = "session-key-of-thirty-two-bytes!", "publish-key-of-thirty-two-bytes!"
MARK = b'"percent"'

# Sessions in acme as a login leaves them, each of a member of its own; their keys go to a file.
SESSIONS = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.db import transaction
from shop.models import Membership, Organization
store = import_module(settings.SESSION_ENGINE).SessionStore
acme, users = Organization.objects.get(slug="acme"), get_user_model().objects
with open({path!r}, "w") as out, transaction.atomic():
    for number in range({count}):
        user = users.create(username=f"member-{{number}}", password=f"!{{number}}")
        Membership.objects.create(user=user, organization=acme, role="member")
        session = store()
        session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY], session["active_organization"] = user.get_session_auth_hash(), "acme"
        session.save()
        print(session.session_key, file=out)
"""


class Socket(asyncio.Protocol):
    """A page's socket, which counts the events that it gets."""

    def __init__(self, path: str, port: int, cookie: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Origin: http://127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[float] = loop.create_future()  # time.monotonic() of its end
        self.events = 0
        self.code = 0  # of the close frame, if one came
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
            self._frame(data[0] & 0x0F, data[start : start + length])
            data = data[start + length :]
        self._rest = data

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:  # a ping
            self._transport.write(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)  # type: ignore[attr-defined]
        elif opcode == 8:
            self.code = int.from_bytes(payload[:2], "big")
            self._ended()
        elif MARK in payload:
            self.events += 1

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed"))
        self._ended()

    def _ended(self) -> None:
        if not self.closed.done():
            self.closed.set_result(time.monotonic())

    def close(self) -> None:
        self._transport.close()


async def connect(port: int, cookie: str) -> tuple[Socket, float]:
    """Opens a socket, and comes back as a page does that is told to. Returns it with the seconds of its handshake."""
    deadline = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        made = await asyncio.get_running_loop().create_connection(lambda: Socket("/ws/report/7/", port, cookie), "127.0.0.1", port)
        try:
            await made[1].opened
            return made[1], time.monotonic() - began
        except ConnectionError:
            made[1].close()
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def connect_all(port: int, cookies: list[str], at_once: int = 16) -> list[tuple[Socket, float]]:
    """Opens a socket with each cookie, so many at a time."""
    places = asyncio.Semaphore(at_once)

    async def one(cookie: str) -> tuple[Socket, float]:
        async with places:
            return await connect(port, cookie)

    return list(await asyncio.gather(*map(one, cookies)))


class Program:
    """A program that listens on a port of loopback, with the processes that it starts."""

    def __init__(self, command: list[str], port: int, log: Path, env: dict[str, str], undo: ExitStack) -> None:
        out = undo.enter_context(log.open("wb"))
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
        self.pid = process.pid
        undo.callback(process.wait)
        undo.callback(self._kill)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not start: {log.read_text()}") from None
                time.sleep(0.05)

    def _kill(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        return [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]

    def cpu(self) -> float:
        """The processor time of its processes, in seconds."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """The resident memory of its processes, in bytes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE")


class Site:
    """The site's database with ada, bob and their organizations, and a Redis for it, in a folder of their own."""

    def __init__(self, undo: ExitStack) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        self.redis = free_port()
        command = ["redis-server", "--port", str(self.redis), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        Program(command, self.redis, self.folder / "redis.log", dict(os.environ), undo)
        env = self.env("shop.settings", 0) | {"SHOP_DB": str(self.folder / "empty.sqlite3")}
        self._manage("migrate", "--run-syncdb", "--verbosity", "0", env=env)
        self._manage("shell", env=env, input=(HERE / "seed.py").read_bytes())

    def env(self, settings: str, private: int) -> dict[str, str]:
        """The environment of the site, with the port of the gateway's private listener."""
        return {
            **os.environ,
            "PYTHONPATH": f"{HERE}:{PACKAGE}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": settings,
            "SHOP_DB": str(self.folder / "db.sqlite3"),
            "SHOP_REDIS": f"redis://127.0.0.1:{self.redis}",
            "SHOP_GATEWAY": f"http://127.0.0.1:{private}",
            "SHOP_SESSION_KEY": SESSION_KEY,
            "SHOP_PUBLISH_KEY": PUBLISH_KEY,
        }

    def reset(self) -> None:
        """Forgets all sessions and members but the first ones."""
        shutil.copy(self.folder / "empty.sqlite3", self.folder / "db.sqlite3")

    def sessions(self, count: int, env: dict[str, str]) -> list[str]:
        """Makes sessions and returns their keys."""
        path = self.folder / "keys"
        self._manage("shell", "-c", SESSIONS.format(path=str(path), count=count), env=env)
        return path.read_text().split()

    def _manage(self, *arguments: str, env: dict[str, str], input: bytes | None = None) -> None:
        subprocess.run([sys.executable, str(HERE / "manage.py"), *arguments], env=env, check=True, input=input)


def gateway(binary: str, public: int, private: int, redis: int, *settings: str) -> list[str]:
    """The command of a gateway for the site."""
    return [
        *(binary, "serve", "--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{private}"),
        *("--redis", f"redis://127.0.0.1:{redis}", "--publish-key", PUBLISH_KEY, "--origins", f"http://127.0.0.1:{public}"),
        *("--max-per-user", "100000", "--max-per-organization", "100000", "--handshakes-per-second", "100000"),
        *("--routes-file", str(HERE / "routes.yaml"), *settings),
    ]


def asking(site: int) -> list[str]:
    """The settings of a gateway that asks the site at a port who belongs to a cookie."""
    return [
        *("--session-store", "http", "--session-cookie", "sessionid", "--session-cookie-pick", "last"),
        *("--session-url", f"http://127.0.0.1:{site}/orgcast/identity", "--session-url-key", SESSION_KEY, "--lease-deadline", "2m"),
    ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
