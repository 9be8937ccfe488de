"""The sections of the menu, one module each: read what was asked for, call, show."""
