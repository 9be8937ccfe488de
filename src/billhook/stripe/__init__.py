"""What speaks with Stripe: the gateway (our calls) and the signature (its calls)."""
