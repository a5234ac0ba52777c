"""Each function of views under its name."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [path(view.__name__, view) for view in views.VIEWS]
