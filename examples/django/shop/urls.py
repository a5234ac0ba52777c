"""Paths of the site."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.page),
    path("sign-in", views.sign_in),
    path("sign-out", views.sign_out),
    path("password", views.change_password),
    path("grow", views.grow),
]
