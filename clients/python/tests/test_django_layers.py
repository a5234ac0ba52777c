"""Channel layers that publish nothing to the gateway: it takes the events from Redis itself."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from conftest import start
from page import EVENTS_PATH, PROTOCOL, Page
from stack import Gateway, Stack, Visitor, until

LAYERS: dict[str, Any] = {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}
SECRET = "test-only-secret-of-the-site-0123456789abcdef"
SECRETS = ["key of the layer", "previous key"]
#: From this version on there are serializers, and the pub/sub layer encrypts instead of ignoring its keys.
NEWER = tuple(map(int, importlib.metadata.version("channels-redis").split("."))) >= (4, 2, 1)
CONFIGS: dict[str, dict[str, Any]] = {"plain": {}, "encrypted": {"symmetric_encryption_keys": SECRETS}, "prefix": {"prefix": "shop"}}
if NEWER:
    CONFIGS["json"] = {"serializer_format": "json"}
    CONFIGS["json, encrypted"] = {"serializer_format": "json", "symmetric_encryption_keys": SECRETS, "random_prefix_length": 8}


def flags(kind: str, redis_url: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a gateway for a layer."""
    found: dict[str, Any] = {"channel_layer": kind, "channel_layer_redis": redis_url.rsplit("/", 1)[0] + "/4"}
    if "symmetric_encryption_keys" in config and (kind == "core" or NEWER):
        keys = folder / "layer-keys"
        keys.write_text("\n".join(config["symmetric_encryption_keys"]) + "\n")
        found["channel_layer_keys_file"] = keys
    names = {"prefix": "channel_layer_prefix", "serializer_format": "channel_layer_format", "random_prefix_length": "channel_layer_random_prefix"}
    return {**found, **{flag: config[name] for name, flag in names.items() if name in config}}


def options(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """What the layer takes of a configuration: the pub/sub layer puts no random bytes before a payload."""
    return {name: value for name, value in config.items() if name != "random_prefix_length" or kind == "core"}


@pytest.fixture(params=["core", "pubsub"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of older layers under a newer Python
        yield request.param


@pytest.mark.parametrize("config", CONFIGS)
def test_unchanged_group_send_reaches_the_organization(kind: str, config: str, stack: Stack, redis_url: str, tmp_path: Path) -> None:
    """The site has the layer of channels_redis. Its frames are those that its consumer sends, byte for byte."""
    gateway = stack.gateway(**flags(kind, redis_url, CONFIGS[config], tmp_path))
    layer = f"{LAYERS[kind].__module__}.{LAYERS[kind].__name__}"
    site = stack.site(gateway, {}, layer=layer, layer_config=options(kind, CONFIGS[config]))
    ada, bob = Visitor(site, "ada"), Visitor(site, "bob", "globex")

    async def run() -> None:
        channels = await Page.open(site.port, ada.cookie)
        page, other = await Page.open(gateway.port, ada.cookie), await gateway.enter(bob.cookie)
        ready(gateway)
        site.do("send", organization="acme", percent=10)
        frame = await page.next()
        assert frame == await channels.next() == '{"type":"report.update","status":"l\\u00e4uft","percent":10}'
        site.do("send", organization="globex", percent=20)
        assert await other.percent() == 20  # and not 10, which came before
        site.do("send", organization="", percent=30)
        site.do("send", organization="acme", percent=40)
        assert await page.percent() == 40  # and neither 20 nor 30

    asyncio.run(run())
    assert gateway.metric('orgcast_channel_layer_dropped_total{reason="no_organization"}') == 1
    assert gateway.log().count("event without organization dropped") == 1


def test_nothing_of_the_site_changes(kind: str, stack: Stack, redis_url: str, tmp_path: Path) -> None:
    """Neither the package nor its middleware is installed: the gateway reads the sessions, and the channel layer."""
    keys = tmp_path / "secret-keys"
    keys.write_text(f"{SECRET}\n")
    native: dict[str, Any] = {"session_store": "django-signed", "directory": "session", "django_secret_keys_file": keys}
    gateway = stack.gateway(**native, **flags(kind, redis_url, {}, tmp_path))
    apps = ["auth", "contenttypes", "sessions"]
    settings = {
        "SECRET_KEY": SECRET,
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "INSTALLED_APPS": [*(f"django.contrib.{app}" for app in apps), "channels", "crm"],
        "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    }
    site = stack.site(gateway, settings, layer=f"{LAYERS[kind].__module__}.{LAYERS[kind].__name__}")
    ada, bob = Visitor(site, "ada"), Visitor(site, "bob", "globex")

    async def run() -> None:
        channels = await Page.open(site.port, ada.cookie)
        page, other = await Page.open(gateway.port, ada.cookie), await gateway.enter(bob.cookie)
        ready(gateway)
        site.do("send", organization="acme", percent=10)
        assert await page.next() == await channels.next() == '{"type":"report.update","status":"l\\u00e4uft","percent":10}'
        site.do("send", organization="globex", percent=20)
        assert await other.percent() == 20  # and not 10, which came before

    asyncio.run(run())


def ready(gateway: Gateway) -> None:
    """Waits until the gateway is a member of its groups."""
    until("ready", lambda: gateway.metric("orgcast_ready") == 1)


async def subscribe(gateway: Gateway, cookie: str, groups: list[str]) -> Page:
    """Opens a page that is in groups."""
    page = await Page.open(gateway.port, cookie, EVENTS_PATH, protocol=PROTOCOL)
    page.send({"type": "subscribe", "groups": {name: {} for name in groups}})
    waiting = set(groups)
    while waiting:
        frame = json.loads(await page.next())
        assert frame["type"] != "error", frame
        if frame["type"] == "subscribed":
            waiting.discard(frame["group"])
    return page


@pytest.fixture
def hosts(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Three servers."""
    started = [start(tmp_path_factory.mktemp("redis")) for _ in range(2)]
    yield [redis_url.rsplit("/", 1)[0] + "/4", *(f"redis://127.0.0.1:{port}/4" for _, port in started)]
    for process, _ in started:
        process.kill()
        process.wait()


def test_several_hosts(kind: str, stack: Stack, redis_url: str, hosts: list[str], tmp_path: Path) -> None:
    """The site spreads its groups over three servers."""
    settings: dict[str, Any] = {**flags(kind, redis_url, {}, tmp_path), "channel_layer_redis": ",".join(hosts)}
    gateway = stack.gateway(groups_per_connection=GROUPS, **settings)
    site = stack.site(gateway, {})
    ada, bob = Visitor(site, "ada"), Visitor(site, "bob", "globex")
    layer = LAYERS[kind](hosts=hosts)
    names = [f"room.{i}" for i in range(GROUPS)]

    async def run() -> None:
        page, other = await subscribe(gateway, ada.cookie, names), await subscribe(gateway, bob.cookie, names[:1])
        for name in names:
            await layer.group_send(name, {"type": "note", "organization_id": "acme", "name": name})
        await layer.group_send(names[0], {"type": "note", "organization_id": "globex", "name": "other"})
        got = {event["event"]["name"]: event["group"] for event in [json.loads(await page.next()) for _ in names]}
        assert got == {name: name for name in names}
        assert json.loads(await other.next())["event"]["name"] == "other"

    asyncio.run(run())
    found = {f"orgcast_channel_layer_{name}_total": gateway.metric(f"orgcast_channel_layer_{name}_total") for name in ("messages", "gaps")}
    assert found == {"orgcast_channel_layer_messages_total": GROUPS + 1, "orgcast_channel_layer_gaps_total": 0}


RICH = {
    "type": "report.update",
    "organization_id": "acme",
    "text": 'ü 組織 🚀 "\\ \n\t\x00\x7f\u2028/',
    "numbers": [0, -1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.1, -0.0, 3.0, 1e16, 1.5e-7, 5e-324, 1.7976931348623157e308],
    "nested": {"": None, "a": [True, False, [], {}], "ключ": {"b": 1}},
}


@pytest.mark.parametrize("config", [name for name in CONFIGS if name in ("plain", "json")])
def test_whole_events_have_the_form_of_python(kind: str, config: str, stack: Stack, redis_url: str, tmp_path: Path) -> None:
    """A consumer that sends json.dumps(event) sends these bytes."""
    gateway = stack.gateway(**flags(kind, redis_url, CONFIGS[config], tmp_path))
    site = stack.site(gateway, {})
    ada = Visitor(site, "ada")
    layer = LAYERS[kind](hosts=[redis_url.rsplit("/", 1)[0] + "/4"], **CONFIGS[config])

    async def run() -> None:
        page = await subscribe(gateway, ada.cookie, ["room.any"])
        await layer.group_send("room.any", RICH)
        assert await page.next() == f'{{"event":{json.dumps(RICH)},"group":"room.any"}}'

    asyncio.run(run())


GROUPS, EACH = 64, 25


def test_events_for_a_stopped_gateway(kind: str, stack: Stack, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1,600 events for 64 groups while the gateway stands still, each group gets all of its own, or a gap."""
    gateway = stack.gateway(groups_per_connection=GROUPS, **flags(kind, redis_url, {}, tmp_path))
    site = stack.site(gateway, {})
    ada = Visitor(site, "ada")
    layer = LAYERS[kind](hosts=[redis_url.rsplit("/", 1)[0] + "/4"])
    names = [f"room.{i}" for i in range(GROUPS)]

    async def run() -> None:
        page = await subscribe(gateway, ada.cookie, names)
        gateway.process.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        for number in range(EACH):
            event = {"type": "note", "organization_id": "acme", "number": number}
            await asyncio.gather(*(layer.group_send(name, event) for name in names))
        while time.monotonic() < stopped + 1:
            await asyncio.sleep(0.05)
        stood = time.monotonic() - stopped
        gateway.process.signal(signal.SIGCONT)
        got: Counter[str] = Counter()
        gaps: set[str] = set()
        while any(got[name] < EACH and name not in gaps for name in names):
            frame = json.loads(await page.next())
            if frame.get("type") == "gap":
                gaps.add(frame["group"])
            elif "event" in frame:
                got[frame["group"]] += 1
        with capsys.disabled():
            print(f"\n{kind}: stopped for {stood:.1f} s, {sum(got.values())} events and {len(gaps)} gaps before the last group was settled")
        # It is a member still.
        await layer.group_send(names[0], {"type": "note", "organization_id": "acme", "number": "last"})
        while json.loads(await page.next()).get("event", {}).get("number") != "last":
            pass

    asyncio.run(run())
