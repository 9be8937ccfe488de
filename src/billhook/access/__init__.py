"""Who is calling, and the secrets: tokens, keys, policies."""
