"""Judges from outside: Stripe's own command line, SDKs and types, and another's scenarios."""
