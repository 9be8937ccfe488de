"""Usage: what the app records in `payments.usage` is sent to Stripe's meters, once
(docs/decisions/0018-usage.md)."""

from __future__ import annotations

from billhook.usage.sender import UsageSender

__all__ = ["UsageSender"]
