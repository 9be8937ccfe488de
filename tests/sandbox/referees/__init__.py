"""Independent checks: Stripe's own CLI, SDKs and types, and the scenarios of another project."""
