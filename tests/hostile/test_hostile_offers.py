"""Offers and one subscription per subject, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(
    again(
        "http/test_offers",
        "test_there_are_never_more_redemptions_than_allowed",
        "test_an_offer_for_some_prices_is_for_all_items",
    )
    | again(
        "http/test_one_subscription",
        "test_a_subscription_is_named_with_a_link_to_the_portal",
        "test_between_the_payment_and_its_events_there_is_no_gap",
        "test_of_two_that_are_created_at_once_the_later_one_stays",
    )
)
