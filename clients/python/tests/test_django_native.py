"""A Django site of which the gateway reads the sessions itself, without asking."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import django
import pytest
import redis
from page import Refused
from stack import Gateway, Stack, Visitor, engine, until

UNANSWERED = 'orgcast_lease_checks_total{result="unavailable"}'
ENDED, ONCE = (4401, "session ended"), (4401, '{"retry":"once"}')
SECRET = "test-only-secret-of-the-site-0123456789abcdef"
#: Django has a cache for Redis of its own from this version on.
HAS_OWN_CACHE = django.VERSION >= (4, 0)

Kind = dict[str, Any]
KINDS: dict[str, Kind] = {  # by what the site uses
    "signed_cookies": {"engine": "signed_cookies", "flags": {"session_store": "django-signed"}},
    "cache, pickle": {"engine": "cache", "flags": {"django_cache_format": "pickle"}},
    "cache, JSON": {"engine": "cache", "options": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}},
    "cache, prefix": {"engine": "cache", "prefix": "shop", "version": 2, "flags": {"django_cache_format": "pickle", "django_cache_prefix": "shop", "django_cache_version": 2}},
    "cached_db": {"engine": "cached_db", "flags": {"django_cache_format": "pickle", "django_cache_engine": "cached_db"}},
}
if HAS_OWN_CACHE:
    KINDS["Django's cache, pickle"] = {"engine": "cache", "own": True, "flags": {"django_cache_format": "pickle"}}
    KINDS["Django's cache, JSON"] = {"engine": "cache", "own": True, "options": {"serializer": "django.core.signing.JSONSerializer"}}


def settings(kind: Kind, url: str) -> dict[str, Any]:
    """Returns the settings of the site."""
    backend = "django.core.cache.backends.redis.RedisCache" if kind.get("own") else "django_redis.cache.RedisCache"
    cache = {"BACKEND": backend, "LOCATION": url, "KEY_PREFIX": kind.get("prefix", ""), "VERSION": kind.get("version", 1), "OPTIONS": kind.get("options", {})}
    return {"SECRET_KEY": SECRET, "SESSION_ENGINE": engine(kind["engine"]), "CACHES": {"default": cache}}


class Native:
    """A site and two gateways: one that hears what the site announces and nothing else, and one that only reads, often."""

    def __init__(self, kind: Kind, stack: Stack, folder: Path, redis_url: str) -> None:
        self.keys = folder / "secret-keys"
        self.keys.write_text(SECRET + "\n")
        self.url = redis_url.rsplit("/", 1)[0] + "/3"
        flags: dict[str, Any] = {
            "session_store": "django-cache",
            "directory": "session",
            "django_cache_redis": self.url,
            "django_secret_keys_file": self.keys,
            **kind.get("flags", {}),
        }
        self.told: Gateway = stack.gateway(lease_period="24h", lease_deadline="48h", **flags)
        self.reading: Gateway = stack.gateway(database=5, lease_period="500ms", lease_deadline="1h", **flags)
        self.kind, self.site = kind, stack.site(self.told, settings(kind, self.url))


@pytest.fixture
def native(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path, redis_url: str) -> Native:
    return Native(KINDS[request.param], stack, tmp_path, redis_url)


@pytest.mark.parametrize("native", KINDS, indirect=True)
def test_the_session_of_a_login_opens_a_socket(native: Native) -> None:
    """The cookie of Django's own login is enough, and another one is not."""
    ada, bob = Visitor(native.site, "ada"), Visitor(native.site, "bob", "globex")
    if native.kind["engine"] == "cache" and "options" not in native.kind:
        ada.get("visit")  # a datetime, which says nothing about who the user is

    async def run() -> None:
        page, other = await native.reading.enter(ada.cookie), await native.reading.enter(bob.cookie)
        await native.reading.expect_open(page)
        await native.reading.expect_open(other, organization="globex")
        refused: Refused = await native.reading.refusal("sessionid=" + "x" * 32)
        assert refused.status == (503 if native.kind["engine"] == "cached_db" else 401)

    asyncio.run(run())


@pytest.mark.parametrize("native", KINDS, indirect=True)
def test_what_is_announced_ends_a_session(native: Native) -> None:
    """Whatever the gateway can read, an announced logout ends one device, and only that."""

    async def run() -> None:
        # Two logins within one second would have the same signed cookie if they were in the same organization.
        laptop, phone = Visitor(native.site, "logout"), Visitor(native.site, "logout", "globex")
        cookie = laptop.cookie
        here, there = await native.told.enter(cookie), await native.told.enter(phone.cookie)
        laptop.get("leave")
        assert await here.end() == ENDED
        await native.told.expect_open(there, organization="globex")
        # Of a signed cookie copies live on. The announcement has ended them, too.
        refused = await native.told.refusal(cookie)
        assert refused.status == (503 if native.kind["engine"] == "cached_db" else 401)

    asyncio.run(run())


@pytest.mark.parametrize("native", ["cache, pickle", "cache, JSON"], indirect=True)
def test_what_the_cache_shows(native: Native) -> None:
    """A logout, a deleted session and another organization are in the cache, and nobody has to announce them."""

    async def run() -> None:
        laptop, phone, other = (Visitor(native.site, "ada") for _ in range(3))
        here, there, third = [await native.reading.enter(visitor.cookie) for visitor in (laptop, phone, other)]
        laptop.get("leave")
        assert await here.end() == ONCE
        native.site.do("delete", key=phone.key)
        assert await there.end() == ONCE
        other.get("switch", organization="globex")
        assert await third.end() == (4409, "organization switched")
        await native.reading.expect_open(await native.reading.enter(other.cookie), organization="globex")

    asyncio.run(run())


@pytest.mark.parametrize("native", ["cache, pickle", "signed_cookies"], indirect=True)
def test_what_only_the_database_shows(native: Native) -> None:
    """The documented gap: another device's password change and a user who is disabled are not in the session."""

    async def run() -> None:
        laptop, phone = Visitor(native.site, "password"), Visitor(native.site, "password")
        there = await native.reading.enter(phone.cookie)
        laptop.get("password")
        await native.reading.expect_open(there)
        assert (laptop.name, phone.name) == ("password", "")
        if native.kind["engine"] == "cache":  # which Django has deleted, at the phone's request
            assert await there.end() == ONCE
        disabled = Visitor(native.site, "disable")
        page = await native.reading.enter(disabled.cookie)
        native.site.do("disable", user="disable")
        await native.reading.expect_open(page, await native.reading.enter(disabled.cookie))

    asyncio.run(run())


@pytest.mark.parametrize("native", ["cached_db"], indirect=True)
def test_a_lost_cache_is_no_logout(native: Native, redis_port: int) -> None:
    """With cached_db a session that is not in the cache may be in the database: sockets stay, and new ones come back later."""
    ada = Visitor(native.site, "ada")
    cache = redis.Redis(port=redis_port, db=3)

    async def run() -> None:
        page = await native.reading.enter(ada.cookie)
        cache.flushdb()
        before = native.reading.metric(UNANSWERED)
        until("questions without an answer", lambda: native.reading.metric(UNANSWERED) >= before + 3)
        await native.reading.expect_open(page)
        assert (await native.reading.refusal(ada.cookie)).status == 503
        assert ada.name == "ada"  # which fills the cache again
        await native.reading.expect_open(page, await native.reading.enter(ada.cookie))

    asyncio.run(run())


@pytest.mark.parametrize("native", ["signed_cookies"], indirect=True)
def test_a_new_secret_key(native: Native) -> None:
    """With the old key behind the new one, old and new cookies open sockets."""
    old = Visitor(native.site, "ada")
    new_key = "test-only-" + "another-secret-of-the-site-0123456789"

    async def run() -> None:
        page = await native.reading.enter(old.cookie)
        native.site.start(**{**settings(native.kind, native.url), "SECRET_KEY": new_key})
        new = Visitor(native.site, "ada")
        assert (await native.reading.refusal(new.cookie)).status == 401
        native.keys.write_text(f"{new_key}\n{SECRET}\n")
        native.reading.process.signal(signal.SIGHUP)
        native.reading.process.says('"settings reloaded"')
        await native.reading.expect_open(page, await native.reading.enter(old.cookie), await native.reading.enter(new.cookie))

    asyncio.run(run())
