"""Communication with Stripe: requests (the gateway) and webhooks (the signature)."""
