"""What rules found missing, together."""

from __future__ import annotations

from billhook.reducers.missing import Missing


def test_everything_that_several_rules_lack_is_loaded_at_once() -> None:
    account, other = ("cus_1", "usd"), ("cus_2", "usd")
    found = Missing.together(
        [
            Missing(customers=["cus_1"], histories=["sub_1"], movements={account: 5}),
            Missing(discounts=["di_1"], movements={account: 3, other: 4}),
            Missing(subjects=[("team", "t1")], ties=[("product", "prod_1")], unnamed=["cus_3"]),
        ]
    )
    assert vars(found) == vars(
        Missing(
            customers=["cus_1"],
            subjects=[("team", "t1")],
            ties=[("product", "prod_1")],
            unnamed=["cus_3"],
            histories=["sub_1"],
            discounts=["di_1"],
            movements={account: 3, other: 4},
        )
    )
