"""Organizations and who belongs to them."""

from django.conf import settings
from django.db import models


class Organization(models.Model):
    slug = models.CharField(max_length=64, unique=True)


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    role = models.CharField(max_length=32)
    active = models.BooleanField(default=True)
