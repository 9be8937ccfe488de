"""The menu items, one module each."""
