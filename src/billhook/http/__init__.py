"""The HTTP layer: thin routes that parse, call and respond. It contains no business rules."""
