"""Settings of the site with Django Channels."""

import os
from pathlib import Path

BASE = Path(__file__).resolve().parent
REDIS = os.environ.get("SHOP_REDIS", "redis://127.0.0.1:6379")

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only-for-this-example")
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DB", str(BASE / "db.sqlite3"))}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [BASE / "templates"]}]
ROOT_URLCONF = "shop.urls"
ASGI_APPLICATION = "shop.asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [f"{REDIS}/1"]}}}
