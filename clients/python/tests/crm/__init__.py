"""The models of a site with organizations."""
