"""What signed-in users read and change of their own: invoices and payment methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

import aside
from api import Api, serving
from billhook.client import ApiError, Client
from card_holders import customer_of, default_of
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from recovering import Station
from refusing import RAISING, raising
from stripe_events import T0, event, invoice, payment_method

__all__ = ["billhook"]

OTHER = "22222222-2222-4222-8222-222222222222"
BASE = "/api/payments/stripe/test"
MINE = {"subjectType": "user", "subjectId": USER}
POLICIES = """
    CREATE POLICY own ON payments.stripe_invoices FOR SELECT TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub');
    CREATE POLICY own ON payments.stripe_payment_methods TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub');
"""


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


@pytest.fixture
def app(station: Station) -> Iterator[Api]:
    """Two users have an invoice and cards; the app has policies."""
    station.books.execute(POLICIES)
    with serving(station.books.dsn, station.sandbox) as api:
        yield api


def get(app: Api, what: str, bearer: str | None, **query: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return httpx.get(f"{app.url}{BASE}/my/{what}", params=MINE | query, headers=headers)


@pytest.mark.parametrize("what", ["invoices", "payment-methods"])
def test_users_see_their_own_and_nobody_elses(app: Api, station: Station, what: str) -> None:
    mine, _ = customer_of(station, USER)
    customer_of(station, OTHER)
    station.pull()
    field = "invoices" if what == "invoices" else "paymentMethods"
    found = get(app, what, token()).json()[field]
    assert {each["customerId"] for each in found} == {mine}
    assert {each["subjectId"] for each in found} == {USER}
    assert get(app, what, token(), subjectId=OTHER).json()[field] == []
    assert get(app, what, token(sub=OTHER)).json()[field] == []
    listed = app.admin("GET", f"/test/{what}").json()[field]
    assert len(listed) == 2 * len(found)


def test_an_invoice_has_its_links(app: Api, station: Station) -> None:
    customer_of(station, USER)
    station.pull()
    (found,) = get(app, "invoices", token()).json()["invoices"]
    assert found["hostedInvoiceUrl"].startswith("http")
    assert found["invoicePdf"].startswith("http")


def test_pages_of_ones_own_lead_on(app: Api, station: Station) -> None:
    of_user = {"insforge_subject_type": "user", "insforge_subject_id": USER}
    station.books.apply(
        *(
            event("invoice.updated", invoice(f"in_{n}", metadata=of_user, created=T0 + n), at=n)
            for n in range(3)
        )
    )
    with Client(app.url, token()) as client:
        first = client.mirrored("invoices").own("test", subject=("user", USER), limit=2)
        assert [row.invoice_id for row in first.items] == ["in_2", "in_1"]
        rest = client.mirrored("invoices").own(
            "test", subject=("user", USER), starting_after=first.next_cursor
        )
        assert [row.invoice_id for row in rest.items] == ["in_0"]


@pytest.mark.parametrize("what", ["invoices", "payment-methods"])
@pytest.mark.parametrize(
    ("bearer", "status"), [(None, 401), (ANONYMOUS_KEY, 401), (ADMIN_KEY, 401), ("x.y.z", 401)]
)
def test_only_signed_in_users_ask_for_their_own(
    app: Api, what: str, bearer: str | None, status: int
) -> None:
    assert get(app, what, bearer).status_code == status


@pytest.mark.parametrize("lacking", ["subjectType", "subjectId"])
def test_the_subject_must_be_named(app: Api, lacking: str) -> None:
    query = {name: value for name, value in MINE.items() if name != lacking}
    answer = httpx.get(
        f"{app.url}{BASE}/my/invoices",
        params=query,
        headers={"Authorization": f"Bearer {token()}"},
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


def test_without_a_policy_users_see_nothing(station: Station) -> None:
    customer_of(station, USER)
    station.pull()
    with serving(station.books.dsn, station.sandbox) as api:
        assert get(api, "invoices", token()).json() == {"invoices": []}
        assert get(api, "payment-methods", token()).json() == {"paymentMethods": []}


def change(app: Api, method: str, what: str, bearer: str, **body: Any) -> httpx.Response:
    return httpx.post(
        f"{app.url}{BASE}/payment-methods/{method}/{what}",
        json=body,
        headers={"Authorization": f"Bearer {bearer}"},
        timeout=60,
    )


def test_a_user_chooses_the_default_and_the_mirror_shows_it_at_once(
    app: Api, station: Station
) -> None:
    customer, (_, second) = customer_of(station, USER)
    station.pull()
    for _ in range(2):
        answer = change(app, second, "default", token())
        assert answer.status_code == 200, answer.text
        assert answer.json()["paymentMethod"]["paymentMethodId"] == second
        assert default_of(station, customer) == second
    (shown,) = app.admin("GET", f"/test/customers?customer={customer}").json()["customers"]
    assert shown["paymentMethodBrand"] == "mastercard"


def test_a_user_detaches_a_card_and_it_is_gone_at_once(app: Api, station: Station) -> None:
    _, (first, second) = customer_of(station, USER)
    station.pull()
    assert change(app, second, "detach", token()).status_code == 200
    found = get(app, "payment-methods", token()).json()["paymentMethods"]
    assert [each["paymentMethodId"] for each in found] == [first]
    station.pull()
    assert len(get(app, "payment-methods", token()).json()["paymentMethods"]) == 1
    assert change(app, second, "detach", token()).status_code == 404


def test_a_card_whose_detachment_was_not_heard_of_is_gone_after_a_retry(
    app: Api, station: Station
) -> None:
    _, (_, second) = customer_of(station, USER)
    station.pull()
    station.stripe.v1.payment_methods.detach(second)
    assert change(app, second, "detach", token()).status_code == 200
    assert len(get(app, "payment-methods", token()).json()["paymentMethods"]) == 1


@pytest.mark.parametrize("what", ["default", "detach"])
def test_other_tenants_and_guests_change_nothing(app: Api, station: Station, what: str) -> None:
    customer, (first, second) = customer_of(station, USER)
    station.pull()
    assert change(app, second, what, token(sub=OTHER)).status_code == 404
    assert change(app, second, what, ANONYMOUS_KEY).status_code == 401
    assert change(app, "pm_unknown", what, token()).status_code == 404
    answer = change(app, second, what, token(), actAs={"claims": {"sub": USER}})
    assert answer.status_code == 403
    assert default_of(station, customer) == first
    assert len(get(app, "payment-methods", token()).json()["paymentMethods"]) == 2


def test_who_may_see_a_card_may_not_always_change_it(app: Api, station: Station) -> None:
    _, (_, second) = customer_of(station, USER)
    station.pull()
    app.books.execute("""
        DROP POLICY own ON payments.stripe_payment_methods;
        CREATE POLICY see ON payments.stripe_payment_methods FOR SELECT TO authenticated
            USING (subject_id = auth.jwt() ->> 'sub')""")
    answer = change(app, second, "default", token())
    assert (answer.status_code, answer.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert "payments.stripe_payment_methods" in answer.json()["message"]


@pytest.mark.parametrize("table", ["stripe_payment_methods", "stripe_invoices"])
def test_without_row_level_security_users_see_and_change_nothing(
    app: Api, station: Station, table: str
) -> None:
    customer, (first, second) = customer_of(station, USER)
    station.pull()
    app.books.execute(f"ALTER TABLE payments.{table} DISABLE ROW LEVEL SECURITY")
    what = table.removeprefix("stripe_").replace("_", "-")
    for sub in (USER, OTHER):
        answers = [get(app, what, token(sub=sub))]
        if what == "payment-methods":
            answers += [change(app, second, to, token(sub=sub)) for to in ("default", "detach")]
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
            assert f"Row-level security is off on payments.{table}" in answer.json()["message"]
    assert default_of(station, customer) == first
    admin = token(role="project_admin")
    assert get(app, what, admin).status_code == 200
    assert change(app, second, "default", admin).status_code == 200
    assert change(app, second, "detach", ADMIN_KEY).status_code == 200


def test_an_administrators_token_needs_no_policy_but_acts_for_nobody(
    app: Api, station: Station
) -> None:
    customer, (_, second) = customer_of(station, USER)
    station.pull()
    admin = token(role="project_admin")
    acting = change(app, second, "default", admin, actAs={"claims": {"sub": USER}})
    assert (acting.status_code, "Only an admin key" in acting.text) == (403, True)
    assert change(app, second, "default", admin).status_code == 200
    assert default_of(station, customer) == second
    assert change(app, second, "detach", admin).status_code == 200


@pytest.mark.parametrize(("lock", "status"), [("NO KEY UPDATE", 403), ("UPDATE", 503)])
def test_the_check_waits_for_no_event_and_not_long_for_anybody(
    app: Api, station: Station, lock: str, status: int
) -> None:
    """An event that updates the row takes the first lock, one that deletes it the second."""
    _, (_, second) = customer_of(station, USER)
    station.pull()
    app.books.execute("""
        DROP POLICY own ON payments.stripe_payment_methods;
        CREATE POLICY see ON payments.stripe_payment_methods FOR SELECT TO authenticated
            USING (true);
        CREATE POLICY nobody ON payments.stripe_payment_methods FOR UPDATE TO authenticated
            USING (type = 'none')""")

    async def while_an_event_is_applied() -> httpx.Response:
        connection = await asyncpg.connect(app.books.dsn, statement_cache_size=0)
        try:
            async with connection.transaction():
                await connection.execute(f"SELECT FROM payments.stripe_payment_methods FOR {lock}")
                return await asyncio.to_thread(change, app, second, "detach", token())
        finally:
            await connection.close()

    # What no policy allows is not locked.
    if lock == "UPDATE":
        app.books.execute("DROP POLICY nobody ON payments.stripe_payment_methods")
        app.books.execute("""
            CREATE POLICY all_of_them ON payments.stripe_payment_methods FOR UPDATE
                TO authenticated USING (true)""")
    answer = aside.run(while_an_event_is_applied())
    assert answer.status_code == status, answer.text
    if status == 503:
        assert "is locked by another transaction" in answer.json()["message"]
        assert change(app, second, "detach", token()).status_code == 200


@pytest.mark.parametrize("how", RAISING)
@pytest.mark.parametrize("what", ["default", "detach"])
def test_a_rule_of_the_app_that_rejects_the_row_does_not_hide_what_stripe_did(
    app: Api, station: Station, what: str, how: str
) -> None:
    customer, (first, second) = customer_of(station, USER)
    station.pull()
    table = "payments.customers" if what == "default" else "payments.stripe_payment_methods"
    app.books.execute(raising(table, how))
    refused = change(app, second, what, token())
    assert (refused.status_code, refused.json()["error"]) == (400, "DATABASE_VALIDATION_ERROR")
    assert "at Stripe" in refused.text if what == "default" else "Stripe has" in refused.text
    assert "send the same request again." in refused.json()["nextActions"]
    assert default_of(station, customer) == (second if what == "default" else first)
    app.books.execute(f"DROP TRIGGER odd ON {table}")
    station.pull()  # the events
    if what == "detach":
        found = get(app, "payment-methods", token()).json()["paymentMethods"]
        assert [each["paymentMethodId"] for each in found] == [first]
    else:
        default = "SELECT raw #>> '{invoice_settings,default_payment_method}' AS id"
        of_customer = "FROM payments.customers WHERE provider_customer_id = $1"
        assert app.books.row(f"{default} {of_customer}", customer)["id"] == second


def test_the_server_needs_no_policy_and_may_act_for_a_user(app: Api, station: Station) -> None:
    customer, (first, second) = customer_of(station, USER)
    station.pull()
    with Client(app.url, ADMIN_KEY) as client:
        client.make_default_payment_method("test", second)
        assert default_of(station, customer) == second
        of_user: Any = {"claims": {"sub": USER}}
        client.make_default_payment_method("test", first, act_as=of_user)
        assert default_of(station, customer) == first
        with pytest.raises(ApiError) as refused:
            client.detach_payment_method("test", first, act_as={"claims": {"sub": OTHER}})
        assert refused.value.status == 404
        client.detach_payment_method("test", second)


def test_users_cannot_write_the_rows_themselves(app: Api, station: Station) -> None:
    customer_of(station, USER)
    station.pull()
    claims = f"""'{{"sub": "{USER}", "role": "authenticated"}}'"""
    sign_in = f"SELECT set_config('request.jwt.claims', {claims}, true)"
    for statement in (
        "UPDATE payments.stripe_payment_methods SET updated_at = now()",
        "UPDATE payments.stripe_payment_methods SET brand = 'amex'",
        "DELETE FROM payments.stripe_payment_methods",
        "UPDATE payments.stripe_invoices SET status = 'paid'",
    ):
        with pytest.raises(Exception, match=r"denied|policy"):
            app.books.execute(f"BEGIN; {sign_in}; SET LOCAL ROLE authenticated; {statement}")


def test_stripes_refusal_is_passed_on(app: Api, station: Station) -> None:
    station.books.apply(
        event("payment_method.attached", payment_method("pm_gone", customer="cus_gone"))
    )
    with Client(app.url, ADMIN_KEY) as client, pytest.raises(ApiError) as refused:
        client.make_default_payment_method("test", "pm_gone")
    assert refused.value.status == 404


def test_the_command_line_changes_payment_methods(
    app: Api, station: Station, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, (_, second) = customer_of(station, USER)
    station.pull()
    monkeypatch.setenv("BILLHOOK_URL", app.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    made = billhook("payment-methods", "default", second)
    assert made.out == f"{second} is the default payment method of {customer}.\n"
    assert billhook("payment-methods", "detach", second).code == 2
    json = billhook("payment-methods", "detach", second, "--yes", "--json").json
    assert json["paymentMethod"]["paymentMethodId"] == second
