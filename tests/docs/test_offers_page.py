"""docs/how-to/offers.md: its commands, requests and policies work as they stand there."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from billhook import Client
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, USER, token
from pages import block, blocks
from selling import Shop

__all__ = ["billhook"]
PAGE = "docs/how-to/offers.md"


@pytest.fixture
def operator(shop: Shop, billhook: Billhook, monkeypatch: pytest.MonkeyPatch) -> Billhook:
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    return billhook


def run(operator: Billhook, text: str) -> None:
    for line in text.strip().splitlines():
        _, *arguments = shlex.split(line)
        ran = operator(*arguments)
        assert ran.code == 0, ran.err


def test_the_launch_offer_is_defined_and_used(shop: Shop, operator: Billhook) -> None:
    coupon: Any = {"id": "LAUNCH20", "percent_off": 20, "duration": "once"}
    shop.account.client.v1.coupons.create(coupon)
    shop.plan(lookup_key="team_monthly")
    shop.deliver()
    run(operator, block(PAGE, "sh", "launch"))
    session = shop.open(json.loads(block(PAGE, "json", "team_monthly")))
    assert session["trialGranted"] is True
    (offer,) = shop.api.admin("GET", "/test/offers").json()["offers"]
    assert (offer["redemptions"], offer["maxRedemptions"]) == (1, 500)


def test_options_without_a_flag_are_json(shop: Shop, operator: Billhook) -> None:
    run(operator, block(PAGE, "sh", "b2b"))
    session = shop.open(shop.order(shop.plan(), offer="b2b"))
    assert shop.at_stripe(session).automatic_tax.enabled
    assert shop.ask(shop.order(shop.plan(), offer="b2b")).status_code == 409


def test_the_python_code_defines_an_offer(shop: Shop) -> None:
    names: dict[str, Any] = {}
    (python,) = blocks(PAGE, "python")
    exec(python, names)
    with Client(shop.api.url, ADMIN_KEY) as client:
        assert names["define_summer_offer"](client).options["trialDays"] == 30


def test_only_students_use_the_offer_for_students(shop: Shop) -> None:
    shop.api.books.execute(block(PAGE, "sql", "students_only"))
    shop.offer("student")
    body = shop.order(shop.price(), "payment", offer="student")
    assert shop.ask(body).status_code == 403
    assert shop.ask(body, token(plan_group="student")).status_code == 201
    del body["offer"]
    shop.open(body)


def test_only_the_server_uses_the_offer_for_partners(shop: Shop) -> None:
    shop.api.books.execute(block(PAGE, "sql", "partners_by_server"))
    shop.offer("partner")
    body = shop.order(shop.price(), "payment", offer="partner")
    assert shop.ask(body).status_code == 403
    for claims, status in (({}, 403), ({"sold_by": "server"}, 201)):
        for_them = {**body, "actAs": {"claims": {"sub": USER, **claims}}}
        assert shop.api.checkout(for_them, ADMIN_KEY).status_code == status
