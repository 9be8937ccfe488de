"""The HTTP face: thin routes that parse, call and answer. No business rule lives here."""
