"""The calls of clients/vectors.json, through a gateway and to Redis directly. clients_test.go starts both."""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any, Callable

import pytest
import redis

import orgcast
import orgcast.aio
import orgcast.direct

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text(encoding="utf-8"))
FRONT, KEY, REDIS, WAY = (os.environ[f"ORGCAST_TEST_{name}"] for name in ("FRONT", "KEY", "REDIS", "WAY"))


def gateway(vector: dict[str, Any]) -> orgcast.Gateway:
    through = vector.get("through", "direct")
    url = "http://127.0.0.1:1" if through == "nowhere" else f"{FRONT}/{through}"
    return orgcast.Gateway(url, vector.get("key", KEY), 0.3 if through == "silent" else 60)


def make(publisher: orgcast.Publisher, vector: dict[str, Any]) -> Any:
    group = orgcast.user_group(vector["user"]) if "user" in vector else str(vector.get("group"))
    if vector["call"] == "publish":
        return publisher.publish(vector["organization"], group, vector["event"])
    if vector["call"] == "record":
        return publisher.record(vector["organization"], group, vector["event"], vector.get("idempotency_key"))
    assert vector["call"] == "revoke"
    return publisher.revoke(vector["message"])


class Coroutines:
    """The functions of orgcast.aio, called as a publisher."""

    def __init__(self, via: orgcast.Publisher) -> None:
        self.via = via

    def publish(self, *args: Any) -> orgcast.Receipt:
        return asyncio.run(orgcast.aio.publish(*args, via=self.via))

    def record(self, *args: Any) -> orgcast.Receipt:
        return asyncio.run(orgcast.aio.record(*args, via=self.via))

    def revoke(self, message: orgcast.Event) -> str:
        return asyncio.run(orgcast.aio.revoke(message, via=self.via))


def functions(vector: dict[str, Any]) -> orgcast.Publisher:
    orgcast.configure(gateway(vector))
    return orgcast


def check(vector: dict[str, Any], ids: dict[str, str], call: Callable[[], Any], with_status: bool) -> None:
    if "error" in vector:
        with pytest.raises(orgcast.OrgcastError) as raised:
            call()
        assert raised.value.code == vector["error"]["code"]
        assert raised.value.status == (vector["error"]["status"] if with_status else 0)
        return
    got, want = call(), vector["want"]
    if isinstance(want, dict):
        got = {name: value for name, value in vars(got).items() if name in want}
        want = dict(want)
        if "id" in want:
            label, place = want["id"], f"{vector['organization']} {got['id']}"
            if label not in ids:
                assert re.fullmatch(r"\d+-\d+", got["id"]) and place not in ids.values()
                ids[label] = place
            want["id"] = ids[label].split()[1]
    assert got == want


WAYS: dict[str, Callable[[dict[str, Any]], orgcast.Publisher]] = {
    "http": gateway,
    "functions": functions,
    "asyncio": lambda vector: Coroutines(gateway(vector)),
    "redis": lambda _vector: orgcast.direct.Direct(
        redis.Redis.from_url(REDIS, decode_responses=True, socket_timeout=60)
    ),
}


def test_calls() -> None:
    ids: dict[str, str] = {}  # label → organization and position
    for vector in VECTORS["calls"]:
        if WAY == "redis":
            if vector["call"] == "revoke":
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                opener.open(f"{FRONT}/published", timeout=60).close()
            if "key" in vector:
                continue  # there is no key
            if vector.get("through") not in (None, "lossy"):
                continue  # nothing stands in between
            if vector.get("through") == "lossy" and "error" in vector:
                vector = {**vector, "want": {"nodes": 1}}
                del vector["error"]
            elif vector.get("through") == "lossy" and vector["call"] == "record":
                vector = {**vector, "want": {"id": "lost", "nodes": 1, "repeated": False}}
        try:
            check(vector, ids, lambda: make(WAYS[WAY](vector), vector), WAY != "redis")
        except AssertionError as error:
            raise AssertionError(f"{json.dumps(vector, ensure_ascii=False)}: {error}") from error


def test_bad_settings() -> None:
    with pytest.raises(ValueError):
        orgcast.Gateway(FRONT, "")
    with pytest.raises(ValueError):
        orgcast.Gateway("ftp://127.0.0.1", KEY)
