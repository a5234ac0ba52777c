"""The Django part in a real Django: its own logins, sessions in each of its engines, and both channel layers."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import django
import pytest
from django.conf import settings

import orgcast

KEY = "k" * 32
PATH = "/orgcast/identity"
MIDDLEWARE = [
    "orgcast.django.middleware.OrgcastMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
MEMBERSHIP = {"model": "crm.Membership", "organization": "organization__slug", "role": "role", "filter": {"active": True}}
ORGCAST: dict[str, Any] = {"SESSION_KEY": KEY, "MEMBERSHIP": MEMBERSHIP}
ENGINES = ["db", "signed_cookies", "cache", "cached_db", "file"]


@pytest.fixture(scope="module", autouse=True)
def site(redis_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("django")
    settings.configure(
        SECRET_KEY="secret",
        ALLOWED_HOSTS=["app.example.com"],
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "orgcast.django", "crm"],
        MIDDLEWARE=MIDDLEWARE,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db")}},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{redis_port}/3"}},
        SESSION_FILE_PATH=str(folder),
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        ROOT_URLCONF="test_django",
        ORGCAST=ORGCAST,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    yield


def index(request: Any) -> Any:
    """What a page of the site does to its session."""
    from django.contrib.auth import logout, update_session_auth_hash
    from django.http import HttpResponse

    for name, value in request.GET.items():
        if name == "switch":
            request.session["active_organization_id"] = value or None
        elif name == "logout":
            logout(request)
        elif name == "flush":
            request.session.flush()
        elif name == "basket":
            request.session["basket"] = value
        elif name == "password":
            request.user.set_password(value)
            request.user.save()
            update_session_auth_hash(request, request.user)
    return HttpResponse("ok")


class Urls(list):  # type: ignore[type-arg]
    """Made when it is needed: paths cannot be made before the settings."""

    def __iter__(self) -> Iterator[Any]:
        from django.urls import path

        return iter([path("", index)])


urlpatterns = Urls()


class Told:
    """A publisher that keeps what it is told."""

    def __init__(self, error: Optional[Exception] = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self.events: list[tuple[str, str, str, dict[str, Any]]] = []
        self.error = error

    def revoke(self, message: Any) -> str:
        if self.error:
            raise self.error
        self.messages.append(dict(message))
        return "announced"

    def publish(self, organization: Any, group: str, event: Any) -> orgcast.Receipt:
        return self._take("publish", organization, group, event)

    def record(self, organization: Any, group: str, event: Any, idempotency_key: Optional[str] = None) -> orgcast.Receipt:
        return self._take("record", organization, group, event)

    def _take(self, how: str, organization: Any, group: str, event: Any) -> orgcast.Receipt:
        if self.error:
            raise self.error
        json.dumps(event)
        self.events.append((how, organization, group, dict(event)))
        return orgcast.Receipt()


@pytest.fixture(autouse=True)
def told() -> Iterator[Told]:
    told = Told()
    orgcast.configure(told)
    yield told
    orgcast.configure(None)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    from django.test import override_settings

    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{request.param}"):
        yield request.param


class Browser:
    """A browser of a user, and what the gateway would see of it."""

    def __init__(self, name: str = "", organization: Optional[str] = "acme", role: str = "admin") -> None:
        from crm.models import Membership, Organization
        from django.contrib.auth import get_user_model
        from django.test import Client

        self.client = Client(HTTP_HOST="app.example.com")
        if not name:
            return
        self.user, _ = get_user_model().objects.get_or_create(username=name, defaults={"is_active": True})
        if not self.user.check_password("p"):
            self.user.set_password("p")
        self.user.is_active = True
        self.user.save()
        for slug in ["acme", "globex"]:
            org, _ = Organization.objects.get_or_create(slug=slug)
            if slug == organization:
                self.membership, _ = Membership.objects.update_or_create(
                    user=self.user, organization=org, defaults={"role": role, "active": True}
                )
        assert self.client.login(username=name, password="p")
        if organization:
            self.get(switch=organization)

    def get(self, **query: str) -> Any:
        response = self.client.get("/", query)
        assert response.status_code == 200
        return response

    @property
    def cookie(self) -> str:
        return str(self.client.cookies["sessionid"].value)

    @property
    def entry(self) -> dict[str, Any]:
        return ask(self.cookie)[0]


def post(body: Any, key: str = KEY, method: str = "post") -> Any:
    from django.test import Client

    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    headers = {"HTTP_AUTHORIZATION": f"Bearer {key}", "HTTP_HOST": "127.0.0.1"}  # which is no allowed host
    return getattr(Client(), method)(PATH, data=text, content_type="application/json", **headers)


def ask(*cookies: str) -> list[dict[str, Any]]:
    response = post({"v": 1, "cookies": list(cookies)})
    assert response.status_code == 200, response.content
    assert not response.cookies
    return json.loads(response.content)["identities"]  # type: ignore[no-any-return]


def test_each_engine(engine: str) -> None:
    ada, bob, nobody = Browser("ada"), Browser("bob", "globex", "viewer"), Browser()
    nobody.get(basket="tea")
    entries = ask(ada.cookie, "x" * 32, bob.cookie, nobody.cookie, "", "short", ada.cookie)
    for entry, (browser, organization, role) in {0: (ada, "acme", "admin"), 2: (bob, "globex", "viewer"), 6: (ada, "acme", "admin")}.items():
        said = entries[entry]
        assert (said["user_id"], said["active_organization_id"], said["role"]) == (str(browser.user.pk), organization, role)
        assert said["expires_at"] > 1_700_000_000
    assert [entries[i] for i in (1, 3, 4, 5)] == [{"code": "none"}] * 4


def test_ends(engine: str) -> None:
    """What Django ends without a signal is over for the gateway, too."""
    from crm.models import Membership
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    ada = Browser("ada")
    other = Browser("ada")  # another device
    old = other.cookie
    ada.get(password="new")
    assert ask(old) == [{"code": "none"}]
    assert ada.entry["user_id"] == str(ada.user.pk)
    users.filter(pk=ada.user.pk).update(is_active=False)
    assert "code" in ada.entry
    users.filter(pk=ada.user.pk).update(is_active=True)
    Membership.objects.filter(user=ada.user).update(active=False)
    assert ada.entry == {"code": "forbidden"}
    Membership.objects.filter(user=ada.user).update(active=True, role="viewer")
    assert ada.entry["role"] == "viewer"
    ada.get(switch="globex")
    assert ada.entry == {"code": "forbidden"}
    ada.get(switch="")
    assert ada.entry == {"code": "no_organization"}
    ada.get(switch="acme")
    before = ada.cookie
    ada.get(logout="")
    if engine != "signed_cookies":  # whose copies live on; the announcement ends them
        assert ask(before) == [{"code": "none"}]


def test_asking_changes_nothing(engine: str) -> None:
    from django.contrib.sessions.models import Session
    from django.test import override_settings

    ada = Browser("ada")
    rows = list(Session.objects.order_by("pk").values())
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        first = ada.entry
    assert list(Session.objects.order_by("pk").values()) == rows
    if engine in ("db", "cached_db", "signed_cookies", "cache"):
        assert first["user_id"] == ada.entry["user_id"]


def test_a_batch_takes_few_queries() -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    cookies = [Browser(f"user{i}").cookie for i in range(20)]
    with CaptureQueriesContext(connection) as queries:
        entries = ask(*cookies)
    assert len({entry["user_id"] for entry in entries}) == 20
    assert len(queries) == 3, [q["sql"] for q in queries]


def test_another_secret_key() -> None:
    """A key that was current once still opens sessions, where Django has such keys, and no session gets a new one."""
    from django.test import override_settings

    ada = Browser("ada")
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["secret"]):
        entry = ada.entry
    if django.VERSION >= (4, 1, 8):
        assert entry["user_id"] == str(ada.user.pk)
    else:
        assert entry == {"code": "none"}
    assert ada.entry["user_id"] == str(ada.user.pk)


@pytest.mark.parametrize(
    ("body", "key", "method", "status"),
    [
        ({"v": 1, "cookies": []}, KEY, "post", 200),
        ({"v": 1, "cookies": []}, "x" * 32, "post", 401),
        ({"v": 1, "cookies": []}, "", "post", 401),
        ({"v": 1, "cookies": []}, "k" * 31 + "ä", "post", 401),
        ({"v": 2, "cookies": []}, KEY, "post", 400),
        ({"v": 1}, KEY, "post", 400),
        ({"v": 1, "cookies": "abc"}, KEY, "post", 400),
        ({"v": 1, "cookies": [7]}, KEY, "post", 400),
        ([], KEY, "post", 400),
        ("{", KEY, "post", 400),
        (b"\xff", KEY, "post", 400),
        ("[" * 100_000, KEY, "post", 400),
        ("", KEY, "get", 405),
    ],
)
def test_refusals(body: Any, key: str, method: str, status: int) -> None:
    assert post(body, key, method).status_code == status


def test_membership_may_be_a_function() -> None:
    from django.core.exceptions import PermissionDenied
    from django.test import override_settings

    def membership(user: Any, session: dict[str, Any]) -> Any:
        if user.username == "eve":
            raise PermissionDenied
        return ("acme", "guest") if session.get("basket") else None

    with override_settings(ORGCAST={**ORGCAST, "MEMBERSHIP": membership}):
        ada, eve = Browser("ada"), Browser("eve")
        assert (ada.entry, eve.entry) == ({"code": "no_organization"}, {"code": "forbidden"})
        ada.get(basket="tea")
        assert (ada.entry["active_organization_id"], ada.entry["role"]) == ("acme", "guest")


def test_announcements(engine: str, told: Told) -> None:
    from orgcast.django.announce import session_id

    ada = Browser("ada")
    told.messages.clear()
    ada.get()
    assert told.messages == []
    old = ada.cookie
    ada.get(switch="globex")
    assert told.messages == [{"type": "organization.switched", "session_id": session_id(old), "organization_id": "globex"}]
    told.messages.clear()
    old = ada.cookie
    ada.get(password="new")
    # A page that stays signed in comes back by itself, which it would not after the end of its session. A signed
    # cookie keeps no key that could change.
    organization = "globex" if engine == "signed_cookies" else None
    assert told.messages == [{"type": "organization.switched", "session_id": session_id(old), "organization_id": organization}]
    for way in ("logout", "flush"):
        ada = Browser("ada")
        old = ada.cookie
        told.messages.clear()
        ada.get(**{way: ""})
        assert told.messages == [{"type": "session.ended", "session_id": session_id(old)}]
    nobody = Browser()
    nobody.get(basket="tea")
    told.messages.clear()
    nobody.get(basket="milk")
    assert told.messages == []


def test_an_announcement_that_fails_loses_no_response(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    ada = Browser("ada")
    told.error = orgcast.OrgcastError("revoke", 503, "unavailable")
    with caplog.at_level(logging.WARNING, "orgcast"):  # what ran before may have set another
        ada.get(logout="")
    assert "session.ended was not announced" in caplog.text


def test_an_announcement_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    """A user who logs out does not wait for a gateway that is away."""
    from django.test import override_settings

    ada = Browser("ada")
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as away:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = away.accept()
                except OSError:
                    return
                tried.append(1)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{away.getsockname()[1]}"
        with override_settings(ORGCAST={**ORGCAST, "GATEWAY": {"URL": url, "KEY": KEY}}), caplog.at_level(logging.WARNING, "orgcast"):
            ada.get(logout="")
        away.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert tried == [1]
    assert "session.ended was not announced" in caplog.text


@pytest.mark.parametrize("layer", ["RedisChannelLayer", "RedisPubSubChannelLayer"])
def test_layers(layer: str, redis_port: int, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """An unchanged group_send reaches Channels, and Orgcast in the event's organization."""
    from django.test import override_settings

    from orgcast.django import layers

    async def run() -> Any:
        backend = getattr(layers, layer)(hosts=[f"redis://127.0.0.1:{redis_port}/4"])
        channel = await backend.new_channel()
        await backend.group_add("report_7", channel)
        own: dict[str, Any] = {"type": "report.update", "organization_id": "acme", "percent": 10}
        await backend.group_send("report_7", own)
        received = await asyncio.wait_for(backend.receive(channel), 60)
        with orgcast.organization_context("globex"):
            await backend.group_send("job_7", {"type": "job.update"})
        for _ in range(2):
            await backend.group_send("report_7", {"type": "report.lost"})
        await backend.group_send("report_7", {**own, "data": b"bytes"})
        with override_settings(ORGCAST={**ORGCAST, "RECORD": ["job_*"], "CURRENT_ORGANIZATION": lambda: 5}):
            await backend.group_send("job_7", {"type": "job.update"})
            await backend.group_send("report_7", {"type": "report.update"})
        with override_settings(ORGCAST={**ORGCAST, "CHANNELS": False}):
            await backend.group_send("other", own)
        return received

    layers._warned.clear()
    with caplog.at_level(logging.WARNING, "orgcast"):
        received = asyncio.run(run())
    own = {"type": "report.update", "organization_id": "acme", "percent": 10}
    assert {k: v for k, v in received.items() if not k.startswith("__")} == own
    assert told.events == [
        ("publish", "acme", "report_7", own),
        ("publish", "globex", "job_7", {"type": "job.update"}),
        ("record", "5", "job_7", {"type": "job.update"}),
        ("publish", "5", "report_7", {"type": "report.update"}),
        ("publish", "acme", "other", own),
    ]
    assert caplog.text.count("name no organization") == 1
    assert caplog.text.count("was not published") == 1


def test_check_prints_the_settings() -> None:
    from django.core.management import CommandError, call_command
    from django.test import override_settings

    out = io.StringIO()
    complete = {**ORGCAST, "GATEWAY": {"URL": "http://127.0.0.1:9090", "KEY": KEY}}
    with override_settings(ORGCAST=complete):
        call_command("orgcast_check", url="http://web:8000/", stdout=out)
    for flag in ("--session-store http", "--session-cookie sessionid", "--session-cookie-pick last", f"--session-url http://web:8000{PATH}", "--origins https://app.example.com"):
        assert flag in out.getvalue()
    assert KEY not in out.getvalue()
    assert "--channel-layer" not in out.getvalue()
    unchanged: dict[str, Any] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://cache/1", "redis://store/1"], "prefix": "shop", "symmetric_encryption_keys": ["a secret"]},
    }
    with override_settings(ORGCAST=complete, CHANNEL_LAYERS={"default": unchanged}):
        call_command("orgcast_check", stdout=out)
    for flag in ("--channel-layer core", "--channel-layer-redis redis://cache/1,redis://store/1", "--channel-layer-keys-file FILE", "--channel-layer-prefix shop"):
        assert flag in out.getvalue()
    assert "a secret" not in out.getvalue()
    unchanged = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://:password@cache/1"]}}
    with override_settings(ORGCAST=complete, CHANNEL_LAYERS={"default": unchanged}):
        call_command("orgcast_check", stdout=out)
    assert "--channel-layer pubsub" in out.getvalue()
    assert "password" not in out.getvalue()
    mistakes: list[tuple[dict[str, Any], list[str], str]] = [
        ({"SESSION_KEY": "short"}, MIDDLEWARE, "at least 32 characters"),
        ({"MEMBERSHIP": None}, MIDDLEWARE, 'ORGCAST["MEMBERSHIP"]: required'),
        ({"MEMBERSHIPS": {}}, MIDDLEWARE, "unknown MEMBERSHIPS"),
        ({}, MIDDLEWARE[1:], "must begin with"),
        ({}, MIDDLEWARE[::-1], "must be the first one"),
        ({}, MIDDLEWARE, 'ORGCAST["GATEWAY"]: required'),
    ]
    for change, middleware, mistake in mistakes:
        with override_settings(ORGCAST={**ORGCAST, **change}, MIDDLEWARE=middleware):
            with pytest.raises((CommandError, django.core.exceptions.ImproperlyConfigured), match="(?s).*" + mistake.replace("[", r"\[")):
                call_command("orgcast_check", stdout=io.StringIO())


def test_files_are_installed() -> None:
    """A wheel without the command would still import."""
    import orgcast.django

    assert (Path(orgcast.django.__file__).parent / "management" / "commands" / "orgcast_check.py").is_file()
