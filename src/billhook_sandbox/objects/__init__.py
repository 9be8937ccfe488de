"""Creates the objects of each kind, with all their fields; one module per kind or family."""
