"""Event types that the app adds: the endpoint asks for them, pulling records them, triggers see
them."""

from __future__ import annotations

import httpx
import pytest
from test_connections import fresh, new_key, set_key, stripe_get

from api import Api
from billhook.account.endpoint_events import EVENTS, known_types
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from recovering import Station

__all__ = ["billhook", "fresh"]

ADDED = "payment_intent.created"
PATH = "/test/webhook/events"


def enabled(api: Api, key: str) -> set[str]:
    (endpoint,) = stripe_get(api, key, "/v1/webhook_endpoints")["data"]
    return set(endpoint["enabled_events"])


def test_the_types_that_billhook_needs_are_stripes_own() -> None:
    assert set(EVENTS) <= known_types()
    assert ADDED in known_types()


@pytest.mark.parametrize(
    "notice",
    [
        "customer.source.expiring",
        "customer.subscription.trial_will_end",
        "invoice.payment_action_required",
        "invoice.upcoming",
    ],
)
def test_notices_that_apps_pass_on_come_without_asking(notice: str) -> None:
    assert notice in EVENTS


def test_an_added_type_is_asked_for_and_a_removed_one_no_longer(fresh: Api) -> None:
    key = new_key()
    set_key(fresh, key)
    assert enabled(fresh, key) == set(EVENTS)
    for _ in range(2):
        answer = fresh.admin("POST", PATH, {"types": [ADDED, "payout.paid", "invoice.paid"]})
        assert answer.status_code == 200
        assert answer.json() == {"always": list(EVENTS), "added": [ADDED, "payout.paid"]}
    assert enabled(fresh, key) == {*EVENTS, ADDED, "payout.paid"}
    assert fresh.admin("GET", PATH).json()["added"] == [ADDED, "payout.paid"]
    assert fresh.admin("GET", "/live/webhook/events").json()["added"] == []
    for _ in range(2):
        answer = fresh.admin("DELETE", f"{PATH}/payout.paid")
        assert answer.json()["added"] == [ADDED]
    assert enabled(fresh, key) == {*EVENTS, ADDED}


def test_an_added_type_is_asked_for_when_a_key_is_set_later(fresh: Api) -> None:
    assert fresh.admin("POST", PATH, {"types": [ADDED]}).status_code == 200
    key = new_key()
    set_key(fresh, key)
    assert ADDED in enabled(fresh, key)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"types": ["payout.payed"]}, "types: Stripe has no event type payout.payed"),
        ({"types": ["*"]}, "types: Stripe has no event type *"),
        ({"types": []}, "types: must have at least 1 item"),
        ({}, "types: "),
        ({"types": [ADDED], "more": 1}, "more"),
    ],
)
def test_what_is_no_event_type_is_refused_and_nothing_is_stored(
    fresh: Api, body: dict[str, object], message: str
) -> None:
    answer = fresh.admin("POST", PATH, body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert message.lower() in answer.json()["message"].lower()
    assert fresh.admin("GET", PATH).json()["added"] == []


def test_a_mistyped_type_is_corrected(fresh: Api) -> None:
    answer = fresh.admin("POST", PATH, {"types": ["payout.payed"]}).json()
    assert answer["nextActions"] == "Did you mean payout.paid?"


def test_a_type_that_billhook_needs_cannot_be_removed(fresh: Api) -> None:
    answer = fresh.admin("DELETE", f"{PATH}/invoice.paid")
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_admins_see_and_change_the_types(fresh: Api, method: str) -> None:
    url = f"{fresh.url}/api/payments/stripe{PATH}"
    assert httpx.request(method, url, json={"types": [ADDED]}).status_code == 401


def test_without_a_public_url_added_types_are_pulled_and_triggers_see_them(
    database_url: str, sandbox: str
) -> None:
    station = Station(database_url, sandbox)
    station.books.execute(f"""
        CREATE TABLE public.seen (type text);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.seen VALUES (NEW.event_type); RETURN NEW; END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status IN ('processed', 'ignored') AND NEW.event_type = '{ADDED}')
        EXECUTE FUNCTION public.note();
    """)
    station.bought(1)
    station.pull()
    assert station.books.rows("SELECT type FROM public.seen") == []
    station.books.execute(
        f"INSERT INTO billhook.endpoint_events (environment, event_type) VALUES ('test', '{ADDED}')"
    )
    station.bought(1)
    station.pull()
    station.pull()
    seen = station.books.rows("SELECT type FROM public.seen")
    assert seen
    ledger = f"SELECT processing_status FROM payments.webhook_events WHERE event_type = '{ADDED}'"
    assert [row["processing_status"] for row in station.books.rows(ledger)] == ["ignored"] * len(
        seen
    )


def test_the_cli_adds_lists_and_removes_types(
    fresh: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", fresh.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)

    def webhooks(*arguments: str) -> str:
        ran = billhook("webhooks", "events", *arguments)
        assert ran.code == 0, ran.err
        return ran.out

    assert f"{ADDED} (added)" in webhooks("add", ADDED, "payout.paid")
    webhooks("remove", "payout.paid")
    listed = webhooks("list")
    assert f"{ADDED} (added)" in listed
    assert "payout.paid" not in listed
    assert "invoice.paid" in listed
