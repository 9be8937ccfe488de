"""Money: whatever Stripe took or gave back, whoever asked for it, and nothing else."""

from __future__ import annotations

from playing import case, play, transactions

from books import Books


def test_a_payment_of_another_integration_is_booked_without_a_subject_and_with_its_refund(
    books: Books,
) -> None:
    play(books, case("R9"))
    payment, refund = transactions(books)
    assert (payment["type"], payment["status"]) == ("one_time_payment", "partially_refunded")
    assert (payment["amount"], payment["amount_refunded"]) == (5000, 1200)
    assert (payment["subject_type"], payment["subject_id"]) == (None, None)
    assert (refund["status"], refund["amount"]) == ("refunded", 1200)
    assert refund["provider_parent_object_id"] == payment["provider_object_id"] == "pi_R9"
    assert refund["payment_id"] == payment["payment_id"]
