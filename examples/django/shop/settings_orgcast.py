"""The same site with Orgcast: all that changes, apart from where the proxy sends /ws/."""

import os

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS, MIDDLEWARE, REDIS

INSTALLED_APPS = [*INSTALLED_APPS, "orgcast.django"]
MIDDLEWARE = ["orgcast.django.middleware.OrgcastMiddleware", *MIDDLEWARE]
CHANNEL_LAYERS = {"default": {"BACKEND": "orgcast.django.layers.RedisChannelLayer", "CONFIG": {"hosts": [f"{REDIS}/1"]}}}
ORGCAST = {
    "SESSION_KEY": os.environ["SHOP_SESSION_KEY"],
    "GATEWAY": {"URL": os.environ.get("SHOP_GATEWAY", "http://127.0.0.1:9090"), "KEY": os.environ["SHOP_PUBLISH_KEY"]},
    "MEMBERSHIP": {"model": "shop.Membership", "organization": "organization__slug", "role": "role", "filter": {"active": True}},
    "ACTIVE_ORGANIZATION": "active_organization",
}
