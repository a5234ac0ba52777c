"""Makes the people of the example: run it with `manage.py shell < seed.py`."""

from django.contrib.auth import get_user_model

from shop.models import Membership, Organization

for name, slug in [("ada", "acme"), ("bob", "globex")]:
    organization, _ = Organization.objects.get_or_create(slug=slug)
    user = get_user_model().objects.create_user(name, password=f"{name}-password")
    Membership.objects.create(user=user, organization=organization, role="admin")
