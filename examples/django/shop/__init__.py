"""A site with organizations whose pages watch reports grow."""
