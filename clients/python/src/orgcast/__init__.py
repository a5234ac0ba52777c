"""Publish to Orgcast, and do work for it, each piece under its own organization.

    import orgcast

    orgcast.configure(orgcast.Gateway("http://127.0.0.1:9090", key))
    orgcast.publish("acme", "room.1", {"type": "note", "text": "hello"})

Importing this package imports nothing but the standard library. orgcast.direct, orgcast.worker, orgcast.ask
and orgcast.tools need the package redis, orgcast.celery needs Celery.
"""

from .context import current_organization, current_user, know_organizations, organization_context
from .errors import NoOrganization, OrgcastError, UnknownOrganization
from .gateway import Gateway
from .names import is_user_id, sign_group, user_group
from .publisher import Event, Publisher, Receipt, configure, publish, record, revoke

__all__ = [
    "Event",
    "Gateway",
    "NoOrganization",
    "OrgcastError",
    "Publisher",
    "Receipt",
    "UnknownOrganization",
    "configure",
    "current_organization",
    "current_user",
    "is_user_id",
    "know_organizations",
    "organization_context",
    "publish",
    "record",
    "revoke",
    "sign_group",
    "user_group",
]
