"""Answers the gateway's question which user a cookie belongs to, and tells it of logouts and switches."""

from __future__ import annotations

import json
import logging
from typing import Any, Optional

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends import signed_cookies
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.utils.deprecation import MiddlewareMixin

from ..errors import OrgcastError
from . import conf, identity, sessions
from .announce import session_id

_log = logging.getLogger("orgcast")
_VERSION = 1
#: What a request remembers for its end.
_ENDED, _ENTERED = "_orgcast_logged_out", "_orgcast_logged_in"


def _remember(name: str) -> Any:
    def receiver(request: Any = None, **_kwargs: Any) -> None:
        if request is not None:
            setattr(request, name, True)

    return receiver


_logged_out, _logged_in = _remember(_ENDED), _remember(_ENTERED)
user_logged_out.connect(_logged_out)
user_logged_in.connect(_logged_in)


class OrgcastMiddleware(MiddlewareMixin):  # type: ignore[misc]
    """Stands first in MIDDLEWARE: the identity path needs no session of its own, no URL and no allowed host."""

    def __init__(self, get_response: Any) -> None:
        try:
            self._key, self._path = conf.session_key(), conf.get("IDENTITY_PATH")
        except ImproperlyConfigured:
            if conf.given():
                raise
            raise MiddlewareNotUsed("orgcast: ORGCAST is not set") from None
        super().__init__(get_response)

    def process_request(self, request: HttpRequest) -> Optional[HttpResponse]:
        """Answers on the identity path, and on no other."""
        if request.path_info != self._path:
            return None
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {self._key}"):
            return HttpResponse(status=401)
        try:
            question = json.loads(request.body)
            cookies = question["cookies"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return HttpResponse(status=400)
        if question.get("v") != _VERSION or not isinstance(cookies, list) or not all(isinstance(c, str) for c in cookies):
            return HttpResponse(status=400)
        return JsonResponse({"identities": identity.answer(cookies)}, headers={"Cache-Control": "no-store"})

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Announces what the request did to the session that it came with."""
        try:
            message = _change(request)
        except Exception:  # whatever it is, it is no reason to lose the response
            _log.exception("orgcast: what became of the session is not known")
            return response
        if message is not None:
            _announce(message)
        return response


def _change(request: HttpRequest) -> Optional[dict[str, Any]]:
    """Returns what has to be announced, or None."""
    cookie, session = request.COOKIES.get(settings.SESSION_COOKIE_NAME), getattr(request, "session", None)
    if not cookie or session is None or not session.modified:
        return None
    old = session_id(cookie)
    logged_in = SESSION_KEY in session
    if not logged_in:
        if hasattr(request, _ENDED) or session.session_key is None:
            return {"type": "session.ended", "session_id": old}
        return None
    # A signed cookie has another value after each change; its old value goes on being read.
    new_key = hasattr(request, _ENTERED) if _is_signed() else session.session_key != cookie
    organization = None if new_key else _organization(request)
    return {"type": "organization.switched", "session_id": old, "organization_id": organization}


def _is_signed() -> bool:
    return issubclass(sessions.engine(), signed_cookies.SessionStore)


def _organization(request: HttpRequest) -> Optional[str]:
    where, data = conf.get("ACTIVE_ORGANIZATION"), request.session
    if callable(where) or "." in where:
        found = conf.function("ACTIVE_ORGANIZATION")(request.user, dict(data))  # type: ignore[misc]
    else:
        found = data.get(where)
    return None if found in (None, "", 0) else str(found)


def _announce(message: dict[str, Any]) -> None:
    try:
        conf.announcer().revoke(message)
    except (OrgcastError, RuntimeError) as error:  # sockets end within --lease-period without it
        _log.warning("orgcast: %s was not announced: %s", message["type"], error)
