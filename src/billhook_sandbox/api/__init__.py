"""The operations of Stripe's API, one module per family: read parameters, act, answer."""
