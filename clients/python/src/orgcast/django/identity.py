"""Whose a cookie is: what Django itself would say of a request that bears it, for many at once."""

from __future__ import annotations

from collections import defaultdict
from http.cookies import _unquote  # as django.http.cookie takes values
from typing import Any, NamedTuple, Optional

from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from . import conf, sessions

NONE = {"code": "none"}
NO_ORGANIZATION = {"code": "no_organization"}
FORBIDDEN = {"code": "forbidden"}

#: Names of the fields of the model in MEMBERSHIP.
_FIELDS = {"user": "user", "organization": "organization", "role": None, "filter": None}


class _Claim(NamedTuple):
    """A session of a user who is logged in."""

    user: Any
    session: sessions.Session


def answer(cookies: list[str]) -> list[dict[str, Any]]:
    """Returns an entry of the identity answer for each cookie, in their order."""
    keys = [_unquote(cookie) for cookie in cookies]
    found = sessions.read(keys)
    users = _users(found)
    entries: dict[str, dict[str, Any]] = {}
    claims: dict[str, _Claim] = {}
    for key, session in found.items():
        user = users.get(key)
        if user is None or not _hash_matches(user, session.data):
            continue
        if getattr(user, "is_active", True):
            claims[key] = _Claim(user, session)
        else:
            entries[key] = FORBIDDEN
    entries.update(_entries(claims))
    return [entries.get(key, NONE) for key in keys]


def _users(found: dict[str, sessions.Session]) -> dict[str, Any]:
    """Returns the user of each session, as its authentication backend has it now."""
    pk = get_user_model()._meta.pk
    of_backend: dict[Any, dict[str, Any]] = defaultdict(dict)
    for key, session in found.items():
        backend = session.data.get(BACKEND_SESSION_KEY)
        if backend not in settings.AUTHENTICATION_BACKENDS or SESSION_KEY not in session.data:
            continue
        try:
            of_backend[backend][key] = pk.to_python(session.data[SESSION_KEY])
        except ValidationError:
            continue
    users: dict[str, Any] = {}
    for path, ids in of_backend.items():
        backend = load_backend(path)
        if type(backend).get_user is ModelBackend.get_user:
            known = get_user_model()._default_manager.in_bulk(list(set(ids.values())))
            users.update({key: known.get(user_id) for key, user_id in ids.items()})
        else:
            users.update({key: backend.get_user(user_id) for key, user_id in ids.items()})
    return users


def _hash_matches(user: Any, data: dict[str, Any]) -> bool:
    """Whether the password is still the one of the login. Keys that were current once count too, and nothing is renewed."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    carried = data.get(HASH_SESSION_KEY)
    if not carried:
        return False
    good = [user.get_session_auth_hash()]
    for older in ("get_session_auth_fallback_hash", "_legacy_get_session_auth_hash"):  # from 4.1.8; up to 3.2
        if hasattr(user, older):
            hashes = getattr(user, older)()
            good.extend([hashes] if isinstance(hashes, str) else hashes)
    return any(constant_time_compare(carried, each) for each in good)


def _entries(claims: dict[str, _Claim]) -> dict[str, dict[str, Any]]:
    membership = conf.get("MEMBERSHIP")
    if membership is None:
        raise ImproperlyConfigured('ORGCAST["MEMBERSHIP"]: required: which organizations does a user belong to?')
    if isinstance(membership, dict):
        return _from_model(claims, {**_FIELDS, **membership})
    decide = import_string(membership) if isinstance(membership, str) else membership
    return {key: _decided(claim, decide) for key, claim in claims.items()}


def _decided(claim: _Claim, decide: Any) -> dict[str, Any]:
    """Asks the site's function: (organization, role), None for no organization, or PermissionDenied."""
    try:
        said = decide(claim.user, claim.session.data)
    except PermissionDenied:
        return FORBIDDEN
    return NO_ORGANIZATION if said is None else _entry(claim, *said)


def _from_model(claims: dict[str, _Claim], names: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Looks up all memberships with one query."""
    active = {key: _active_organization(claim) for key, claim in claims.items()}
    columns = [names["user"], names["organization"], *([names["role"]] if names["role"] else [])]
    rows = apps.get_model(names["model"])._default_manager.filter(
        **{
            f"{names['user']}__in": [claim.user.pk for claim in claims.values()],
            f"{names['organization']}__in": sorted({org for org in active.values() if org is not None}, key=str),
            **(names["filter"] or {}),
        }
    )
    roles = {(user, str(org)): role[0] if role else None for user, org, *role in rows.values_list(*columns)}
    entries: dict[str, dict[str, Any]] = {}
    for key, claim in claims.items():
        place = (claim.user.pk, str(active[key]))
        if active[key] is None:
            entries[key] = NO_ORGANIZATION
        elif place in roles:
            entries[key] = _entry(claim, active[key], roles[place])
        else:
            entries[key] = FORBIDDEN
    return entries


def _active_organization(claim: _Claim) -> Optional[Any]:
    """Returns what the session, or the site's function, says is the active organization."""
    where = conf.get("ACTIVE_ORGANIZATION")
    if callable(where):
        found = where(claim.user, claim.session.data)
    elif "." in where:
        found = import_string(where)(claim.user, claim.session.data)
    else:
        found = claim.session.data.get(where)
    return None if found in (None, "", 0) else found


def _entry(claim: _Claim, organization: Any, role: Optional[str] = None) -> dict[str, Any]:
    entry = {
        "user_id": str(claim.user.pk),
        "active_organization_id": str(organization),
        "expires_at": int(claim.session.expires.timestamp()),
    }
    return {**entry, "role": str(role)} if role else entry
