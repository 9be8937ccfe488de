"""Verifying, rebuilding, archives, retries, searches and the overview, with hostile objects in the
database."""

from __future__ import annotations

import pytest

from again import again

globals().update(
    **again(
        "http/test_verify",
        "test_books_that_are_right_are_told_so_with_their_sums",
        "test_a_payment_that_was_missed_is_fulfilled_by_the_repair",
    )
    | again(
        "http/test_rebuild",
        "test_what_the_ledger_explains_is_equal_to_the_last_row",
        "test_all_rows_lost_come_back_with_payments_that_later_events_find",
        "test_a_payment_that_a_bug_tore_in_two_is_one_again",
    )
    | again(
        "http/test_archives",
        "test_purchases_before_and_after_a_restoration_are_all_in_the_mirror",
        "test_payments_of_both_times_that_prove_to_be_one_have_one_row",
    )
    | again(
        "http/test_recovery",
        "test_a_failed_event_is_fulfilled_once_when_the_app_is_mended",
        "test_without_webhooks_events_are_pulled_and_fulfilled_once",
    )
    | again(
        "http/test_search",
        "test_products_are_found_by_name_id_price_and_lookup_key",
        "TestTransactions",
        "TestPayments",
        "TestCustomers",
        "TestOverHttp",
    )
    | again("http/test_overview_api", "test_the_overview_is_a_row_for_each_day")
)

pytestmark = pytest.mark.sampled(8)
