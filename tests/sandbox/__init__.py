"""The sandbox, tried as a user does: a process of its own, the official SDK, real deliveries."""
