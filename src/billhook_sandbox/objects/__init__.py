"""How each kind of object is made and what it looks like; one module per family."""
