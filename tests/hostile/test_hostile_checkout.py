"""Checkout and portal, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(
    again(
        "http/test_checkout",
        "test_a_user_pays_and_the_row_and_transaction_follow",
        "test_row_level_security_decides_who_is_billed",
        "test_a_repeated_key_gives_the_same_session_to_its_owner_and_nothing_to_others",
        "test_the_portal_needs_a_customer_and_a_user",
    )
)
