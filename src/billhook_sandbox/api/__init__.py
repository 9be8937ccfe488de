"""The operations of Stripe's API, one module per resource: their parameters and handlers."""
