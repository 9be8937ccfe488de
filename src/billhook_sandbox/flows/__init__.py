"""Processes that change several objects: payments, subscriptions, renewals, scheduled actions."""
