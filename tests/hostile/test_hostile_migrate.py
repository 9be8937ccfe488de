"""Migrations after the first one, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(
    again(
        "database/test_migrate",
        "test_a_migration_that_gets_no_lock_says_who_holds_it",
        "test_a_later_index_is_built_while_others_write",
        "test_an_index_that_was_left_unfinished_is_built_again",
        "test_a_process_that_waits_for_another_migration_says_for_whom",
        "test_functions_are_replaced_when_their_text_changes",
    )
)
