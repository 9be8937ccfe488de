"""The connected Stripe account: its key, its connection, its webhook endpoint."""
