"""Changes of subscriptions by the app's users, its server and its operators: the caller's policies
decide, Stripe changes the subscription, and its answer is in the mirror before the response."""

from billhook.checkout.subscriptions.changing import cancel, change, pause, resume
from billhook.checkout.subscriptions.previewing import preview
from billhook.checkout.subscriptions.rights import Target

__all__ = ["Target", "cancel", "change", "pause", "preview", "resume"]
