"""Settings of the site. A test changes them with PORTAL, an object in JSON."""

from __future__ import annotations

import json
import os

_given = json.loads(os.environ["PORTAL"])

SECRET_KEY = "secret of the site"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "orgcast.django",
    "crm",
]
MIDDLEWARE = [
    "orgcast.django.middleware.OrgcastMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
# Requests of one site write at the same time.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _given["db"], "OPTIONS": {"timeout": 60}}}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{_given['redis']}/3", "OPTIONS": _given.get("cache", {})}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": _given.get("layer", "orgcast.django.layers.RedisChannelLayer"),
        "CONFIG": {"hosts": [f"{_given['redis']}/4"], **_given.get("layer_config", {})},
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
ORGCAST = {
    "SESSION_KEY": _given["session_key"],
    "GATEWAY": {"URL": _given["gateway"], "KEY": _given["publish_key"]},
    "MEMBERSHIP": {"model": "crm.Membership", "organization": "organization__slug", "role": "role", "filter": {"active": True}},
}
globals().update(_given.get("settings", {}))
