"""A Redis server for the tests."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from stack import PUBLISH_KEY, SESSION_KEY, Stack, environment

#: How long tests wait for what must happen, in seconds.
PATIENCE = 60


def start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(20):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port, socket_timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.info("server")["process_id"] == process.pid:
                    return process, port
                break  # another server has taken the port meanwhile
            except redis.exceptions.ConnectionError:
                time.sleep(0.01)
        process.kill()
        process.wait()
    raise AssertionError("no redis-server starts")


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    process, port = start(tmp_path_factory.mktemp("redis"))
    yield port
    gc.collect()  # results of Celery say goodbye to the server when they go
    process.kill()
    process.wait()


@pytest.fixture
def redis_url(redis_port: int) -> str:
    redis.Redis(port=redis_port).flushall()
    return f"redis://127.0.0.1:{redis_port}/0"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a site without users."""
    path = tmp_path_factory.mktemp("portal") / "db"
    given = {"db": str(path), "redis": "redis://", "session_key": SESSION_KEY, "publish_key": PUBLISH_KEY, "gateway": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
    subprocess.run(command, env=environment(given), check=True, timeout=PATIENCE)
    return path


@pytest.fixture
def stack(tmp_path: Path, empty: Path, redis_url: str) -> Iterator[Stack]:
    stack = Stack(tmp_path, empty, redis_url)
    yield stack
    stack.close()
