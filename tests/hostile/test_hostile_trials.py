"""One trial per subject, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(
    again(
        "http/test_one_trial",
        "test_an_abandoned_checkout_does_not_use_the_trial",
        "test_the_second_checkout_has_none_before_the_events_of_the_first",
        "test_a_session_that_lost_its_trial_while_it_was_created_reaches_nobody",
    )
)
