"""The application, for INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class OrgcastConfig(AppConfig):  # type: ignore[misc]
    """It has no models. It brings the command orgcast_check."""

    name = "orgcast.django"
    label = "orgcast"
