"""`billhook doctor`, `billhook token` and the store of secrets, with hostile objects in the
database."""

from __future__ import annotations

from again import again
from billhook.access.policies import policies_that_need_uuids
from books import Books

globals().update(
    again(
        "http/test_doctor",
        "test_a_sound_billhook_is_told_so",
        "test_what_is_open_or_missing_is_told_with_the_statements_that_fix_it",
        "test_a_foreign_key_that_forbids_deletions_is_warned_of",
        "test_policies_that_are_missing_are_warned_of_with_ones_that_work",
        "test_the_doctor_names_published_keys_that_insforge_stored",
        "TestOverTheApi",
        "TestCommand",
    )
    | again("database/test_secret_store", "test_a_replaced_signing_secret_stays_valid_for_a_while")
)


def test_policies_that_need_uuids_are_found(books: Books) -> None:
    books.execute(
        "CREATE POLICY own ON payments.stripe_checkout_sessions TO authenticated "
        "USING (subject_id = auth.uid()::text)"
    )
    assert books.run(policies_that_need_uuids) == ["own on payments.stripe_checkout_sessions"]
