"""Signing in and out, switching the organization, a page, and what makes a report grow."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import render

from .models import Membership


def sign_in(request):
    user = authenticate(request, username=request.GET["user"], password=request.GET["password"])
    if user is None:
        return HttpResponse(status=403)
    login(request, user)
    request.session["active_organization"] = Membership.objects.filter(user=user, active=True).first().organization.slug
    return page(request)


def sign_out(request):
    logout(request)
    return HttpResponse("signed out")


def change_password(request):
    request.user.set_password(request.GET["password"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def page(request):
    return render(request, "report.html")


def grow(request):
    """What a Celery task would do."""
    event = {
        "type": "report_update",
        "organization_id": request.GET["organization"],
        "status": "running",
        "percent": int(request.GET["percent"]),
    }
    async_to_sync(get_channel_layer().group_send)("report_7", event)
    return HttpResponse("sent")
