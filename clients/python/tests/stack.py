"""A Django site, a gateway that asks it, and its visitors: processes of their own, for tests of all together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import urlencode

import orgcast
from page import EVENTS_PATH, ORIGIN, PATIENCE, PROTOCOL, Closed, Page, Refused

SESSION_KEY, PUBLISH_KEY = "session key of 32 characters ...", "publish key of 32 characters ..."
ROUTES = """version: 1
routes:
  - path: /ws/report/{id:int}/
    who: member
    groups: ["report_{id}"]
    events:
      report.update: [status, percent]
"""
TESTS = Path(__file__).parent
_percents = itertools.count(1000)


def until(what: str, holds: Callable[[], Any]) -> Any:
    """Waits until a condition holds, and returns what makes it hold."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


class Process:
    """A program whose output goes to a file."""

    def __init__(self, log: Path, command: list[str], **options: Any) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options)

    def says(self, pattern: str) -> re.Match[str]:
        """Waits until the output has a pattern."""

        def found() -> Optional[re.Match[str]]:
            text = self.log.read_text()
            match = re.search(pattern, text)
            assert match or self._process.poll() is None, f"ended: {text}"
            return match

        match: re.Match[str] = until(f"{pattern} in the output of {self.log}", found)
        return match

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the program, also one that is stopped."""
        self._process.kill()
        self._process.wait()


class Site:
    """The site of portal, under daphne. Its port stays the same over restarts."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self._folder = folder
        self.given: dict[str, Any] = {"db": str(folder / "db")}
        shutil.copy(empty, folder / "db")
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self.process: Optional[Process] = None

    def start(self, **settings: Any) -> None:
        """Starts the site with some settings, in place of what ran before."""
        self.stop()
        command = [sys.executable, "-m", "daphne", "--fd", str(self._socket.fileno()), "portal.asgi:application"]
        given = {**self.given, "settings": settings}
        self.process = Process(self._folder / "site.log", command, env=environment(given), pass_fds=[self._socket.fileno()])
        self.process.says("Listening on")

    def stop(self) -> None:
        """Kills the site."""
        if self.process is not None:
            self.process.kill()
        self.process = None

    def close(self) -> None:
        """Kills the site and lets go of its port."""
        self.stop()
        self._socket.close()

    def do(self, view: str, **query: Any) -> dict[str, Any]:
        """Calls a view of the site as somebody who is not logged in."""
        return Visitor(self).get(view, **query)


def environment(given: dict[str, Any]) -> dict[str, str]:
    """Returns the environment of a process that is the site."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "portal.settings", "PORTAL": json.dumps(given)}


class Visitor:
    """A browser of a user."""

    def __init__(self, site: Site, user: str = "", organization: str = "acme") -> None:
        self._site, self._jar = site, CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))
        if user:
            self.get("enter", user=user, organization=organization)

    def get(self, view: str, **query: Any) -> dict[str, Any]:
        """Calls a view."""
        with self._opener.open(f"http://127.0.0.1:{self._site.port}/{view}?{urlencode(query)}", timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    @property
    def key(self) -> str:
        """The value of the session cookie."""
        return next(str(cookie.value) for cookie in self._jar if cookie.name == "sessionid")

    @property
    def cookie(self) -> str:
        """The Cookie header."""
        return f"sessionid={self.key}"

    @property
    def name(self) -> str:
        """Who the site thinks it is; empty for nobody."""
        return str(self.get("who")["user"])


class Gateway:
    """A gateway that asks a site."""

    def __init__(self, folder: Path, site_port: int, redis_url: str, **flags: Any) -> None:
        binary = os.environ.get("GATEWAY_BINARY")
        assert binary, "GATEWAY_BINARY must be the path of the gateway's binary; make python-test builds one"
        folder.mkdir()
        for name, text in {"session": SESSION_KEY, "publish": PUBLISH_KEY, "routes.yaml": ROUTES}.items():
            (folder / name).write_text(text)
        values = {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "redis": redis_url,
            "session_store": "http",
            "session_cookie": "sessionid",
            "session_cookie_pick": "last",
            "session_url": f"http://127.0.0.1:{site_port}/orgcast/identity",
            "session_url_key_file": folder / "session",
            "session_url_timeout": "30s",  # a busy machine must not look like a site that is away
            "publish_key_file": folder / "publish",
            "origins": ORIGIN,
            "routes_file": folder / "routes.yaml",
            **flags,
        }
        command = [binary, "serve", *(part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value)))]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ORGCAST_")}
        self.process = Process(folder / "log", command, env=clean)
        found = self.process.says(r'"serving".*"public":"127\.0\.0\.1:(\d+)","private":"(127\.0\.0\.1:\d+)"')
        self.port, self.private = int(found[1]), f"http://{found[2]}"
        self._publisher = orgcast.Gateway(self.private, PUBLISH_KEY)

    def log(self) -> str:
        """What the gateway has logged."""
        return self.process.log.read_text()

    def metric(self, name: str) -> float:
        """Returns the sum of a metric over its series whose line begins like this."""
        with urllib.request.urlopen(f"{self.private}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    async def expect_open(self, *pages: Page, organization: str = "acme") -> None:
        """Sees that pages get what is published now."""
        percent = next(_percents)
        self._publisher.publish(organization, "report_7", {"type": "report.update", "organization_id": organization, "percent": percent})
        for page in pages:
            while await page.percent() != percent:
                pass

    async def enter(self, cookie: str) -> Page:
        """Opens a socket, and comes back as a page does while it is told to."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                page = await Page.open(self.port, cookie, protocol=PROTOCOL)
                assert json.loads(await page.next())["type"] == "welcome"
                return page
            except Refused as refused:
                if refused.status != 503 or time.monotonic() > deadline:
                    raise
            except Closed as closed:
                if closed.code != 1013 or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def refusal(self, cookie: str) -> Refused:
        """Returns how a handshake is refused."""
        try:
            await Page.open(self.port, cookie, EVENTS_PATH)
        except Refused as refused:
            return refused
        raise AssertionError("the handshake has succeeded")


class Stack:
    """Makes sites and gateways, and ends them."""

    def __init__(self, folder: Path, empty: Path, redis_url: str) -> None:
        self._folder, self._empty, self._redis = folder, empty, redis_url.rsplit("/", 1)[0]
        self._ends, self._gateways = contextlib.ExitStack(), itertools.count()
        self._site: Any = None

    def gateway(self, database: int = 0, **flags: Any) -> Gateway:
        """Starts a gateway for the site. The site announces to the first one, and others in the same database hear of it."""
        if self._site is None:
            self._site = Site(self._folder, self._empty)
            self._ends.callback(self._site.close)
        gateway = Gateway(self._folder / f"gateway{next(self._gateways)}", self._site.port, f"{self._redis}/{database}", **flags)
        self._ends.callback(gateway.process.kill)
        return gateway

    def site(self, gateway: Gateway, settings: dict[str, Any], **given: Any) -> Site:
        """Starts the site, which announces to a gateway."""
        site: Site = self._site
        site.given.update(redis=self._redis, session_key=SESSION_KEY, publish_key=PUBLISH_KEY, gateway=gateway.private, **given)
        site.start(**settings)
        return site

    def close(self) -> None:
        self._ends.close()


def engine(name: str) -> str:
    """Returns the SESSION_ENGINE of this name."""
    return f"django.contrib.sessions.backends.{name}"
