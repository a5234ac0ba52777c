"""A Django site with organizations, for tests of it and a gateway together."""
