"""The hosted pages: checkout and customer portal. Plain forms without scripts."""
