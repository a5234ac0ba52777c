"""Orgcast for Django 3.2 and newer: its own sessions open sockets, and its channel layers publish.

    INSTALLED_APPS = [..., "orgcast.django"]
    MIDDLEWARE = ["orgcast.django.middleware.OrgcastMiddleware", ...]  # the first one
    ORGCAST = {"SESSION_KEY": "…", "MEMBERSHIP": {"model": "crm.Membership"}}

`manage.py orgcast_check` says what is missing and prints the settings of the gateway.
"""
