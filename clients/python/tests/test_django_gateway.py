"""A Django site and a gateway together: what the site ends, ends its sockets, and nothing else does."""

from __future__ import annotations

import asyncio
import resource
import signal
from typing import Any

import django
import pytest
import redis
from page import EVENTS_PATH, PATIENCE, Page
from stack import Site, Stack, Visitor, engine, until

ENDED, ONCE = (4401, "session ended"), (4401, '{"retry":"once"}')
#: Keys that were current once count for sessions from this version on.
HAS_FALLBACKS = django.VERSION >= (4, 1, 8)


@pytest.mark.parametrize("keys", [{}, {"symmetric_encryption_keys": ["key of the layer"]}], ids=["plain", "encrypted"])
@pytest.mark.parametrize("layer", ["RedisChannelLayer", "RedisPubSubChannelLayer"])
def test_group_send_reaches_the_organization(layer: str, keys: dict[str, Any], stack: Stack) -> None:
    """An unchanged group_send reaches the members of the organization, with the frame that the consumer in Channels sends."""
    gateway = stack.gateway()
    site = stack.site(gateway, {}, layer=f"orgcast.django.layers.{layer}", layer_config=keys)
    ada, bob = Visitor(site, "ada"), Visitor(site, "bob", "globex")

    async def run() -> None:
        channels = await Page.open(site.port, ada.cookie)
        page, other = await Page.open(gateway.port, ada.cookie), await gateway.enter(bob.cookie)
        site.do("send", organization="acme", percent=10)
        frame = await page.next()
        assert frame == await channels.next() == '{"type":"report.update","status":"l\\u00e4uft","percent":10}'
        site.do("send", organization="globex", percent=20)
        assert await other.percent() == 20  # and not 10, which came before

    asyncio.run(run())


SESSIONS: dict[str, dict[str, Any]] = {
    "db": {"engine": "db"},
    "signed_cookies": {"engine": "signed_cookies"},
    "cache, pickle": {"engine": "cache"},
    "cache, JSON": {"engine": "cache", "cache": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}},
    "cached_db": {"engine": "cached_db"},
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_each_session_engine_opens_a_socket(kind: str, stack: Stack) -> None:
    gateway = stack.gateway()
    site = stack.site(gateway, {"SESSION_ENGINE": engine(SESSIONS[kind]["engine"])}, cache=SESSIONS[kind].get("cache", {}))
    ada = Visitor(site, "ada")
    if SESSIONS[kind]["engine"] == "cache":
        ada.get("visit")  # a datetime, which says nothing about who the user is

    async def run() -> None:
        await gateway.expect_open(await gateway.enter(ada.cookie))
        assert (await gateway.refusal("sessionid=" + "x" * 32)).status == 401

    asyncio.run(run())


class Seats:
    """The sockets of a visitor: at a gateway that only announcements tell something, and at one that hears none and asks often."""

    def __init__(self, told: Page, asking: Page) -> None:
        self.told, self.asking = told, asking


def test_what_the_site_ends_is_over(stack: Stack) -> None:
    told = stack.gateway(lease_period="24h", lease_deadline="48h")
    asking = stack.gateway(database=5, lease_period="500ms", lease_deadline="1h")
    site = stack.site(told, {})

    async def sit(visitor: Visitor) -> Seats:
        return Seats(await told.enter(visitor.cookie), await asking.enter(visitor.cookie))

    async def run() -> None:
        bystander = await sit(Visitor(site, "eve"))

        laptop, phone = Visitor(site, "logout"), Visitor(site, "logout")
        here, there = await sit(laptop), await sit(phone)
        laptop.get("leave")
        assert await here.told.end() == ENDED
        assert await here.asking.end() == ONCE
        assert (laptop.name, phone.name) == ("", "logout")
        await told.expect_open(there.told, bystander.told)

        laptop, phone = Visitor(site, "password"), Visitor(site, "password")
        here, there = await sit(laptop), await sit(phone)
        laptop.get("password")
        assert (await here.told.end())[0] == 4409  # the page comes back at once
        assert await here.asking.end() == ONCE
        assert await there.asking.end() == ONCE
        assert (laptop.name, phone.name) == ("password", "")
        back = await sit(laptop)  # with the cookie that the answer has brought, and without a login
        await told.expect_open(back.told)

        laptop, phone = Visitor(site, "delete"), Visitor(site, "delete")
        here, there = await sit(laptop), await sit(phone)
        site.do("delete", key=phone.key)
        assert await there.asking.end() == ONCE
        assert (laptop.name, phone.name) == ("delete", "")

        without_signals: list[tuple[str, str, dict[str, str], int]] = [
            ("disable", "disable", {}, 4403),
            ("removed", "member", {}, 4403),
            ("role", "member", {"role": "viewer"}, 4409),
        ]
        for name, act, query, code in without_signals:
            visitor = Visitor(site, name)
            seats = await sit(visitor)
            site.do(act, user=name, **query)
            assert (await seats.asking.end())[0] == code, name
            assert visitor.name == ("" if name == "disable" else name)
        assert (await asking.refusal(Visitor(site, "removed").cookie)).status == 403

        laptop, phone = Visitor(site, "switch"), Visitor(site, "switch")
        here, there = await sit(laptop), await sit(phone)
        laptop.get("switch", organization="globex")
        assert await here.told.end() == (4409, "organization switched")
        assert await here.asking.end() == (4409, "organization switched")
        back = await sit(laptop)
        await told.expect_open(back.told, organization="globex")
        await told.expect_open(there.told, bystander.told)
        await asking.expect_open(bystander.asking)

    asyncio.run(run())


def asked_again(site: Site, times: int = 3) -> None:
    """Waits until the gateway has asked so many times more."""
    before = int(site.do("questions")["count"])
    until("questions", lambda: site.do("questions")["count"] >= before + times)


def test_another_secret_key(stack: Stack) -> None:
    """With the old key among the fallbacks nobody is logged out. Without it everybody is, and the site agrees."""
    gateway = stack.gateway(lease_period="500ms", lease_deadline="1h")
    site = stack.site(gateway, {})
    ada = Visitor(site, "ada")

    async def run() -> None:
        page = await gateway.enter(ada.cookie)
        before = ada.key
        if HAS_FALLBACKS:
            site.start(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["secret of the site"])
            asked_again(site)
            await gateway.expect_open(page)
            await gateway.expect_open(await gateway.enter(ada.cookie))
            assert ada.name == "ada"  # which gives the session another key, so that the page comes back
            assert ada.key != before
            assert (await page.end())[0] in (4401, 4409)
            page = await gateway.enter(ada.cookie)
            await gateway.expect_open(page)
        site.start(SECRET_KEY="one more")
        assert await page.end() == ONCE
        assert ada.name == ""

    asyncio.run(run())


def test_questions_do_not_prolong_a_session(stack: Stack) -> None:
    gateway = stack.gateway(lease_period="500ms", lease_deadline="1h")
    site = stack.site(gateway, {"SESSION_SAVE_EVERY_REQUEST": True})
    ada = Visitor(site, "ada")

    async def run() -> None:
        page = await gateway.enter(ada.cookie)
        before = site.do("expires", key=ada.key)
        asked_again(site)
        assert site.do("expires", key=ada.key) == before
        ada.get("who")
        assert site.do("expires", key=ada.key) != before, "the site does not save"
        await gateway.expect_open(page)

    asyncio.run(run())


def test_a_lost_cache_closes_nothing(stack: Stack, redis_port: int) -> None:
    """With cached_db the rows are still there."""
    gateway = stack.gateway(lease_period="500ms", lease_deadline="1h")
    site = stack.site(gateway, {"SESSION_ENGINE": engine("cached_db")})
    ada = Visitor(site, "ada")
    cache = redis.Redis(port=redis_port, db=3)

    async def run() -> None:
        page = await gateway.enter(ada.cookie)
        assert cache.dbsize() > 0
        cache.flushdb()
        asked_again(site)
        assert cache.dbsize() == 0, "a question has changed the cache"
        await gateway.expect_open(page, await gateway.enter(ada.cookie))
        assert ada.name == "ada"

    asyncio.run(run())


@pytest.fixture
def descriptors() -> None:
    """Lets a test have as many sockets as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def test_a_site_that_stops_answering(stack: Stack, descriptors: None) -> None:
    """Nobody is logged out, and nobody comes in, until it answers again. Beyond the deadline sockets end, and may come back."""
    patient = stack.gateway(lease_period="500ms", lease_deadline="1h", session_url_timeout="1s")
    hasty = stack.gateway(lease_period="500ms", lease_deadline="5s", session_url_timeout="1s")
    site = stack.site(patient, {})
    keys = site.do("crowd", count=200)["keys"]

    async def run() -> None:
        pages = await asyncio.gather(*(patient.enter(f"sessionid={key}") for key in keys))
        end = await hasty.enter(f"sessionid={keys[0]}")
        assert site.process
        site.process.signal(signal.SIGSTOP)
        assert (await end.end())[0] == 1013
        unanswered = patient.metric('orgcast_lease_checks_total{result="unavailable"}')
        until("questions in vain about each socket", lambda: patient.metric('orgcast_lease_checks_total{result="unavailable"}') >= unanswered + 2 * len(pages))
        refused = await patient.refusal(f"sessionid={keys[0]}")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        await patient.expect_open(*pages)
        site.process.signal(signal.SIGCONT)
        pages.append(await patient.enter(f"sessionid={keys[0]}"))
        asked_again(site)
        await patient.expect_open(*pages)
        await hasty.enter(f"sessionid={keys[0]}")

    asyncio.run(run())


def test_a_thousand_pages_share_questions(stack: Stack, descriptors: None, capsys: pytest.CaptureFixture[str]) -> None:
    """How few questions these are depends on the machine, so that the bound is tested with the gateway's own clock."""
    gateway = stack.gateway(lease_period="24h", lease_deadline="48h", handshakes_per_second=100_000)
    site = stack.site(gateway, {})
    keys = site.do("crowd", count=1000)["keys"]
    before = site.do("questions")["count"]

    async def run() -> None:
        pages = await asyncio.gather(*(Page.open(gateway.port, f"sessionid={key}", EVENTS_PATH) for key in keys))
        questions = site.do("questions")["count"] - before
        with capsys.disabled():
            print(f"\n{len(pages)} pages, {questions} questions")
        assert questions < len(pages) / 2, "the gateway does not gather"

    asyncio.run(run())
