"""What visitors do, what an administrator does, and what a test asks."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib import import_module
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from crm.models import Membership, Organization
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.http import HttpRequest, JsonResponse

from . import asgi

PASSWORD = "password"
ORGANIZATIONS = ["acme", "globex"]


def enter(request: HttpRequest) -> JsonResponse:
    """Logs a user in, who belongs to all organizations, and makes one of these active."""
    name, users = request.GET["user"], auth.get_user_model().objects
    if not users.filter(username=name).exists():
        user = users.create_user(name, password=PASSWORD)
        for slug in ORGANIZATIONS:
            organization, _ = Organization.objects.get_or_create(slug=slug)
            Membership.objects.create(user=user, organization=organization, role="editor")
    user = auth.authenticate(request, username=name, password=PASSWORD)
    auth.login(request, user)
    request.session["active_organization_id"] = request.GET["organization"]
    return JsonResponse({})


def who(request: HttpRequest) -> JsonResponse:
    """Tells who the site thinks it is."""
    return JsonResponse({"user": request.user.get_username()})


def leave(request: HttpRequest) -> JsonResponse:
    """Logs out."""
    auth.logout(request)
    return JsonResponse({})


def switch(request: HttpRequest) -> JsonResponse:
    """Makes another organization active."""
    request.session["active_organization_id"] = request.GET["organization"]
    return JsonResponse({})


def password(request: HttpRequest) -> JsonResponse:
    """Changes the password, and keeps this session logged in."""
    request.user.set_password("another")
    request.user.save()
    auth.update_session_auth_hash(request, request.user)
    return JsonResponse({})


def visit(request: HttpRequest) -> JsonResponse:
    """Keeps in the session what not every serializer can hold."""
    request.session["last_seen"] = datetime.now(timezone.utc)
    return JsonResponse({})


def delete(request: HttpRequest) -> JsonResponse:
    """Deletes a session."""
    import_module(settings.SESSION_ENGINE).SessionStore(request.GET["key"]).delete()
    return JsonResponse({})


def disable(request: HttpRequest) -> JsonResponse:
    """Disables a user without any signal."""
    auth.get_user_model().objects.filter(username=request.GET["user"]).update(is_active=False)
    return JsonResponse({})


def member(request: HttpRequest) -> JsonResponse:
    """Changes a membership without any signal."""
    change: dict[str, Any] = {"role": request.GET["role"]} if "role" in request.GET else {"active": False}
    Membership.objects.filter(user__username=request.GET["user"], organization__slug="acme").update(**change)
    return JsonResponse({})


def send(request: HttpRequest) -> JsonResponse:
    """Does what a Celery task would do."""
    event = {"type": "report.update", "organization_id": request.GET["organization"], "status": "läuft", "percent": int(request.GET["percent"])}
    to_sync: Any = async_to_sync  # without types in some versions
    to_sync(get_channel_layer().group_send)("report_7", event)
    return JsonResponse({})


def crowd(request: HttpRequest) -> JsonResponse:
    """Makes sessions of many users, and returns their keys."""
    users, organization = auth.get_user_model(), Organization.objects.get_or_create(slug="acme")[0]
    names = [f"crowd{i}" for i in range(int(request.GET["count"]))]
    secret = make_password(PASSWORD)
    users.objects.bulk_create([users(username=name, password=secret) for name in names])
    found = list(users.objects.filter(username__in=names)) if len(names) < 500 else list(users.objects.filter(username__startswith="crowd"))
    Membership.objects.bulk_create([Membership(user=user, organization=organization, role="editor") for user in found])
    store = import_module(settings.SESSION_ENGINE).SessionStore
    sessions = []
    for user in found:
        session = store()
        session.update({auth.SESSION_KEY: str(user.pk), auth.BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0]})
        session.update({auth.HASH_SESSION_KEY: user.get_session_auth_hash(), "active_organization_id": "acme"})
        row = session.create_model_instance(session._session)
        row.session_key = session._get_new_session_key()
        sessions.append(row)
    store.get_model_class().objects.bulk_create(sessions)
    return JsonResponse({"keys": [row.session_key for row in sessions]})


def expires(request: HttpRequest) -> JsonResponse:
    """Tells when a session in the database ends."""
    return JsonResponse({"at": Session.objects.get(pk=request.GET["key"]).expire_date.isoformat()})


def questions(_request: HttpRequest) -> JsonResponse:
    """Tells how many questions of the gateway came since the start."""
    return JsonResponse({"count": asgi.questions.count})


VIEWS = [enter, who, leave, switch, password, visit, delete, disable, member, send, crowd, expires, questions]
