"""manage.py orgcast_check: what the site lacks, and the settings of the gateway for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from orgcast.django import conf, identity, sessions

_MIDDLEWARE = "orgcast.django.middleware.OrgcastMiddleware"
_TIMEOUT = 10.0


class Command(BaseCommand):  # type: ignore[misc]
    """Checks ORGCAST and MIDDLEWARE, asks the site whose a made-up cookie is, and prints the gateway's settings."""

    help = "Check what Orgcast needs of this site, and print the gateway's settings for it."

    def add_arguments(self, parser: Any) -> None:
        """Declares --url."""
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help="address of this site as the gateway reaches it (%(default)s)"
        )
        parser.add_argument("--ask", action="store_true", help="also ask the site at that address whose a made-up cookie is")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Prints the settings, or fails with every mistake."""
        mistakes = list(_mistakes())
        if mistakes:
            raise CommandError("\n".join(["this site is not ready for Orgcast:", *(f"  - {each}" for each in mistakes)]))
        url = options["url"].rstrip("/") + conf.get("IDENTITY_PATH")
        if options["ask"]:
            _ask(url)
            self.stdout.write(f"{url} answers.\n")
        self.stdout.write("Start the gateway with:\n")
        for flag in _flags(url):
            self.stdout.write(f"  {flag}")


def _mistakes() -> Any:
    try:
        conf.session_key()
        if identity.answer(["no-such-session"]) != [identity.NONE]:
            yield "a made-up cookie belongs to somebody"
    except (ImproperlyConfigured, ImportError) as error:
        yield str(error)
    if conf.get("MEMBERSHIP") is None:
        yield 'ORGCAST["MEMBERSHIP"]: required: which organizations does a user belong to?'
    if _MIDDLEWARE not in settings.MIDDLEWARE:
        yield f"MIDDLEWARE: must begin with {_MIDDLEWARE}"
    elif settings.MIDDLEWARE[0] != _MIDDLEWARE:
        yield f"MIDDLEWARE: {_MIDDLEWARE} must be the first one"
    if conf.get("GATEWAY") is None:
        yield 'ORGCAST["GATEWAY"]: required for announcements and events: {"URL": "http://127.0.0.1:9090", "KEY": …}'


def _flags(url: str) -> list[str]:
    origins = getattr(settings, "CSRF_TRUSTED_ORIGINS", [])
    pages = [origin if "://" in origin else f"https://{origin}" for origin in origins]
    pages = pages or [f"https://{host}" for host in settings.ALLOWED_HOSTS if host != "*"]
    return [
        "--session-store http",
        f"--session-cookie {settings.SESSION_COOKIE_NAME}",
        "--session-cookie-pick last",
        f"--session-url {url}",
        '--session-url-key-file FILE        # with ORGCAST["SESSION_KEY"]',
        '--publish-key-file FILE            # with ORGCAST["GATEWAY"]["KEY"]',
        "--lease-deadline 120s",
        f"--origins {','.join(pages) or 'https://…'}",
        *_layer_flags(),
        f"# sessions are in {sessions.engine().__module__}",
    ]


_LAYERS = {"channels_redis.core.RedisChannelLayer": "core", "channels_redis.pubsub.RedisPubSubChannelLayer": "pubsub"}


def _layer_flags() -> list[str]:
    """The flags for a layer that does not publish by itself, so that the gateway has to take its events."""
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get("default", {})
    kind = _LAYERS.get(layer.get("BACKEND", ""))
    if kind is None:
        return []
    config = layer.get("CONFIG", {})
    hosts = config.get("hosts", ["redis://localhost:6379"])
    shown = all(isinstance(host, str) and "@" not in host for host in hosts)
    url = ",".join(hosts) if shown else "URL        # of CHANNEL_LAYERS; of several hosts all, comma-separated, in the same order"
    flags = [f"--channel-layer {kind}", f"--channel-layer-redis {url}"]
    if config.get("symmetric_encryption_keys"):
        flags.append("--channel-layer-keys-file FILE      # with symmetric_encryption_keys, one in each line")
    names = {"prefix": "prefix", "serializer_format": "format", "random_prefix_length": "random-prefix"}
    return flags + [f"--channel-layer-{flag} {config[name]}" for name, flag in names.items() if name in config]


def _ask(url: str) -> None:
    body = json.dumps({"v": 1, "cookies": ["no-such-session"]}).encode()
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {conf.session_key()}"}, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            said = json.load(response)
    except (OSError, ValueError) as error:
        raise CommandError(f"{url} does not answer: {error}") from error
    if said != {"identities": [identity.NONE]}:
        raise CommandError(f"{url} answers, but not as the gateway expects")
