"""A sync, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(
    again(
        "http/test_sync",
        "test_everything_arrives_whatever_the_number_of_pages",
        "test_what_stripe_no_longer_has_is_removed_after_stripe_confirmed",
        "test_a_row_that_events_brought_meanwhile_is_not_undone",
        "test_the_card_stays_known_when_an_event_names_only_its_id",
        "test_two_syncs_at_once_are_one",
    )
)
