"""docs/how-to/people.md: the commands work as shown."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import shell
from api import Api, api
from http_tokens import ADMIN_KEY, JWT_SECRET
from pages import block

__all__ = ["api"]

PAGE = "docs/how-to/people.md"


@pytest.fixture
def variables(api: Api) -> dict[str, str]:
    return {
        "DATABASE_URL": api.books.dsn,
        "JWT_SECRET": JWT_SECRET,
        "BILLHOOK_URL": api.url,
        "BILLHOOK_API_KEY": ADMIN_KEY,
    }


def test_a_colleague_gets_a_key_that_refunds_and_no_more(
    api: Api, variables: dict[str, str], tmp_path: Path
) -> None:
    ran = shell.run(block(PAGE, "sh", "keys create"), tmp_path, variables)
    key = ran.out.strip().splitlines()[0]
    headers = {"Authorization": f"Bearer {key}"}
    root = f"{api.url}/api/payments/stripe"
    statuses = [
        httpx.get(f"{root}/live/transactions", headers=headers).status_code,
        httpx.get(f"{root}/test/transactions", headers=headers).status_code,
        httpx.delete(f"{root}/live/config", headers=headers).status_code,
        httpx.post(
            f"{root}/live/refunds", headers=headers, json={"payment": "pi_none"}
        ).status_code,
    ]
    assert statuses == [200, 403, 403, 400]  # no account is connected


def test_the_log_is_listed_by_action_and_by_object(
    api: Api, variables: dict[str, str], tmp_path: Path
) -> None:
    api.admin("POST", "/test/refunds", {"payment": "pi_none"})
    made = api.admin("POST", "/test/catalog/products", {"name": "Mug"}).json()["product"]
    script = block(PAGE, "sh", "audit-log").replace("prod_Qx1YzAbC", made["productId"])
    out = shell.run(script, tmp_path, variables).out
    table, _, details = out.partition("{")
    assert "refund.create" in table
    assert "product.create" not in table
    assert f'"target": "{made["productId"]}"' in details
