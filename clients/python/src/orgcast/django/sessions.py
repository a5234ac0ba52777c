"""Reading sessions for many cookies at once, and changing none.

Django's own code reads each engine; where an engine is one of Django's, the sessions of all cookies come
with one query.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import import_module
from typing import Any, NamedTuple, Optional

from django.conf import settings
from django.contrib.sessions.backends import cache, cached_db, db
from django.utils import timezone as django_timezone


class Session(NamedTuple):
    """What a session holds, and when it ends."""

    data: dict[str, Any]
    expires: datetime


def engine() -> Any:
    """Returns the class of SESSION_ENGINE."""
    return import_module(settings.SESSION_ENGINE).SessionStore


def read(keys: Iterable[str]) -> dict[str, Session]:
    """Returns the sessions that exist, by their keys, which are the values of cookies."""
    store = engine()
    wanted = sorted({key for key in keys if len(key) >= 8 and key.isprintable()})  # as SessionBase takes keys
    if store.load is db.SessionStore.load:
        return _rows(store, wanted)
    if store.load is cache.SessionStore.load:
        return _cached(store, wanted)
    if store.load is cached_db.SessionStore.load:
        found = _cached(store, wanted)
        return {**_rows(store, [key for key in wanted if key not in found]), **found}
    return {key: session for key in wanted if (session := _session(store, _load(store, key)))}


def _load(store: Any, key: str) -> dict[str, Any]:
    session = store(key)
    data: dict[str, Any] = session.load()
    return data


def _rows(store: Any, keys: list[str]) -> dict[str, Session]:
    """Reads the table of sessions."""
    if not keys:
        return {}
    rows = store.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=django_timezone.now())
    found = {}
    for row in rows:
        session = _session(store, store().decode(row.session_data), row.expire_date)
        if session:
            found[row.session_key] = session
    return found


def _cached(store: Any, keys: list[str]) -> dict[str, Session]:
    """Reads the cache. Unlike in Django, a cache that does not answer is an error and not an empty session."""
    reader = store()
    prefix = getattr(reader, "cache_key_prefix", cache.KEY_PREFIX)
    found = {}
    for name, data in reader._cache.get_many([prefix + key for key in keys]).items():
        session = _session(store, data)
        if session:
            found[name[len(prefix) :]] = session
    return found


def _session(store: Any, data: Any, expires: Optional[datetime] = None) -> Optional[Session]:
    """Returns a session that is not empty and not over."""
    if not isinstance(data, dict) or not data:
        return None
    reader = store()
    reader._session_cache = data  # else it would load what is here already
    end = _aware(reader.get_expiry_date())
    if expires is not None:
        end = min(end, _aware(expires))
    return Session(data, end) if end > datetime.now(timezone.utc) else None


def _aware(moment: datetime) -> datetime:
    """Returns a time with its zone; without USE_TZ Django's have none."""
    aware: datetime = django_timezone.make_aware(moment) if django_timezone.is_naive(moment) else moment
    return aware
