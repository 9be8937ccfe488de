"""Stripe's objects in PostgreSQL: fetched, synced, verified, rebuilt, archived."""
