"""Publishing to Redis without the gateway: names, databases, and a server that hung."""

from __future__ import annotations

import time
from typing import Any

import pytest

import orgcast
from orgcast.direct import Direct
from orgcast.space import connect

from conftest import PATIENCE


def test_another_database_has_channels_of_its_own(redis_url: str) -> None:
    client = connect(redis_url.replace("/0", "/3"), timeout=PATIENCE)
    listener = client.pubsub()
    listener.psubscribe("*")
    assert listener.get_message(timeout=PATIENCE)["type"] == "psubscribe"
    direct = Direct(client)
    assert direct.publish("acme", "all", {"type": "note"}).nodes == 1
    assert direct.record("acme", "all", {"type": "note"}).nodes == 1
    assert direct.revoke({"type": "session.ended", "session_id": "s"}) == "revoked"
    heard = [listener.get_message(timeout=PATIENCE)["channel"] for _ in range(3)]
    assert heard == ["orgcast@3:{acme}:group:all", "orgcast@3:{acme}:group:all", "orgcast@3:control"]
    assert client.xlen("orgcast:{acme}:history:all") == 1


def test_the_application_keeps_the_directory(redis_url: str) -> None:
    client = connect(redis_url, timeout=PATIENCE)
    client.hset("orgcast:{acme}:org", "status", "active")
    direct = Direct(client, directory="session")
    assert direct.revoke({"type": "organization.suspended", "organization_id": "acme"}) == "announced"
    assert client.hget("orgcast:{acme}:org", "status") == "active"


def test_a_wrong_clock_is_read_again(redis_url: str) -> None:
    client = connect(redis_url, timeout=PATIENCE)
    direct = Direct(client)
    direct._space.clocks._known[""] = (1, time.monotonic())  # 1970
    seconds = client.time()[0]
    receipt = direct.record("acme", "all", {"type": "note"})
    assert receipt.id is not None and int(receipt.id.split("-")[0]) >= seconds * 1000


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "note", "text": "\ud800"}, "not_utf8"),
        ({"type": "note", "text": "x" * 300_000}, "too_large"),
        ({"type": "a b"}, "invalid_type"),
        ({"type": "note", "organization_id": True}, "no_organization"),
        ({"type": "note", "organization_id": "globex"}, "foreign_organization"),
    ],
)
def test_refused_before_redis(redis_url: str, event: Any, code: str) -> None:
    client = connect(redis_url, timeout=PATIENCE)
    direct = Direct(client)
    for name in ("publish", "record"):
        with pytest.raises(orgcast.OrgcastError) as raised:
            getattr(direct, name)("acme", "all", event)
        assert raised.value.code == code
    assert client.keys() == []


def test_no_redis() -> None:
    direct = Direct(connect("redis://127.0.0.1:1/0"))
    for name in ("publish", "record"):
        with pytest.raises(orgcast.OrgcastError) as raised:
            getattr(direct, name)("acme", "all", {"type": "note"})
        assert raised.value.code == "unavailable"
