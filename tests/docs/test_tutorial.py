"""docs/tutorial/: each step runs as it stands there, with what `billhook dev` starts."""

from __future__ import annotations

import pytest

from reader import reading


@pytest.mark.full
def test_the_first_order_is_paid() -> None:
    with reading() as reader:
        reader.serve("billhook dev")  # as `make run` does
        reader.follow("docs/tutorial/first-order.md")
        assert "49.00 EUR" in reader.said
        assert "succeeded" in reader.said
        assert "checkout.session.completed" in reader.said


@pytest.mark.full
def test_the_shop_sells() -> None:
    with reading() as reader:
        reader.follow("docs/tutorial/fastapi-app.md")
        reader.follow("docs/tutorial/fastapi-teams.md")
        reader.follow("docs/tutorial/fastapi-tests.md")
