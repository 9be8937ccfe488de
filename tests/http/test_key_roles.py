"""What keys with a role, or for one environment, may do."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import inspect
import io
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.routing import Route

from api import Api, api
from billhook import dashboard
from billhook.access.api_keys import ApiKeys
from billhook.access.audit import AuditLog
from billhook.access.permissions import Grant, KeyRole, Need, need_of
from billhook.access.secrets import SecretStore
from billhook.app import create_app
from billhook.http.routes import AdminRoute
from billhook.postgres import Database
from billhook.settings import Environment, Settings
from books import Books
from cli import Billhook
from http_tokens import ADMIN_KEY, JWT_SECRET
from stripe_events import customer, event, paid, price, product, subscription
from visitor import Visitor

__all__ = ["api"]


def settings(api: Api) -> Settings:
    return Settings(
        database_url=SecretStr(api.books.dsn), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
    )


def key(
    api: Api, role: KeyRole = "admin", *environments: Environment, name: str | None = None
) -> str:
    async def work(database: Database) -> str:
        keys = ApiKeys(database, SecretStore(database, settings(api)))
        _, made = await keys.create(
            "admin", name=name, role=role, environments=environments or ("test", "live")
        )
        return made

    found: str = api.books.run(work)
    return found


def dashboard_handlers() -> list[Callable[..., Any]]:
    """Those of all forms. `page` wraps them."""
    return [
        inspect.getclosurevars(route.endpoint).nonlocals["handler"]
        for route in dashboard._routes()
        if isinstance(route, Route) and "POST" in (route.methods or ())
    ]


def ask(api: Api, with_key: str, method: str, path: str, body: Any = None) -> httpx.Response:
    return api.http.request(
        method,
        f"/api/payments/stripe{path}",
        json=body,
        headers={"Authorization": f"Bearer {with_key}", "User-Agent": "someone"},
    )


def entries(api: Api, **query: Any) -> list[dict[str, Any]]:
    answer = api.admin("GET", "/audit-log", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


REFUND = {"payment": "pi_unknown", "amount": 100}
PRODUCT = {"name": "Mug"}


@pytest.mark.parametrize(
    ("role", "method", "path", "body", "status"),
    [
        ("viewer", "GET", "/test/transactions", None, 200),
        ("viewer", "GET", "/status", None, 200),
        ("viewer", "POST", "/test/refunds/preview", REFUND, 404),
        ("viewer", "POST", "/test/refunds", REFUND, 403),
        ("viewer", "POST", "/test/webhook-events/replay", {}, 403),
        ("viewer", "POST", "/test/catalog/products", PRODUCT, 403),
        ("viewer", "POST", "/test/subscriptions/sub_1/cancel", {}, 403),
        ("viewer", "POST", "/test/checkout-sessions", {}, 403),
        ("viewer", "PUT", "/test/config", {"secretKey": "sk_test_1"}, 403),
        ("viewer", "GET", "/audit-log", None, 403),
        ("support", "POST", "/test/refunds", REFUND, 404),
        ("support", "POST", "/test/webhook-events/replay", {}, 200),
        ("support", "POST", "/test/catalog/products", PRODUCT, 403),
        ("support", "DELETE", "/test/config", None, 403),
        ("admin", "POST", "/test/catalog/products", PRODUCT, 201),
    ],
)
def test_a_role_decides_what_a_key_may_do(
    api: Api, role: KeyRole, method: str, path: str, body: Any, status: int
) -> None:
    answer = ask(api, key(api, role), method, path, body)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert f"The key has the role {role}" in answer.json()["message"]
        assert answer.json()["nextActions"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/test/transactions", 200),
        ("GET", "/live/transactions", 403),
        ("POST", "/test/sync", 200),
        ("POST", "/live/sync", 403),
        ("POST", "/sync", 403),
        ("GET", "/access", 403),
        ("POST", "/live/subscriptions/sub_1/cancel", 403),
    ],
)
def test_a_key_for_test_mode_reaches_nothing_live(
    api: Api, method: str, path: str, status: int
) -> None:
    answer = ask(api, key(api, "admin", "test"), method, path)
    assert answer.status_code == status, answer.text


def test_a_key_for_test_mode_sees_only_the_status_of_test_mode(api: Api) -> None:
    found = ask(api, key(api, "viewer", "test"), "GET", "/status").json()["connections"]
    assert [each["environment"] for each in found] == ["test"]
    keys = ask(api, key(api, "viewer", "live"), "GET", "/config").json()["keys"]
    assert [each["environment"] for each in keys] == ["live"]


def test_every_route_that_changes_something_for_an_administrator_is_recorded(api: Api) -> None:
    """A new route must say how the audit log calls what it does."""
    # What apps do all the time for their users, and what only reads or changes nothing here.
    unrecorded = {"checkout", "portal", "record", "refresh", "receive", "preview"}
    found = set()
    for route in create_app(settings(api)).routes:
        if not isinstance(route, APIRoute) or route.methods <= {"GET", "HEAD"}:
            continue
        need = need_of(route.endpoint, "POST")
        if need.action is None:
            assert route.endpoint.__name__ in unrecorded, route.path
            continue
        assert isinstance(route, AdminRoute), route.path
        found.add(need.action)
    assert {"refund.create", "subscription.cancel", "stripe_key.set", "meter.create"} <= found


def test_every_id_that_the_audit_log_takes_from_a_response_is_in_it(api: Api) -> None:
    made = {}
    for route in create_app(settings(api)).routes:
        if not isinstance(route, APIRoute):
            continue
        names, found = need_of(route.endpoint, "POST").made, route.response_model
        for name in names:
            fields = {field.alias: field for field in found.model_fields.values()}
            assert name in fields, route.path
            found = fields[name].annotation
        if names:
            made[".".join(names)] = found
    assert {"refund.refundId", "creditGrant.creditGrantId"} <= made.keys()


def test_every_form_of_the_dashboard_is_recorded() -> None:
    posts = [
        handler
        for handler in dashboard_handlers()
        if handler.__name__ not in ("submit", "leave")  # signing in and out
    ]
    assert len(posts) > 15
    assert [each for each in posts if need_of(each, "POST").action is None] == []


def test_a_viewers_key_does_not_replace_that_of_the_settings(database_url: str) -> None:
    books = Books(database_url)

    async def work(database: Database) -> bool:
        given = Settings(
            database_url=SecretStr(database_url),
            jwt_secret=SecretStr(JWT_SECRET),
            access_api_key=SecretStr(ADMIN_KEY),
            _env_file=None,
        )
        keys = ApiKeys(database, SecretStore(database, given))
        await keys.create("admin", role="viewer")
        await keys.create("admin", environments=("test",))
        await keys.seed(given)
        return await keys.is_valid("admin", ADMIN_KEY)

    assert books.run(work)
    books.close()


def test_a_change_is_recorded_with_who_what_before_and_after(api: Api) -> None:
    mine = key(api, name="Ada")
    made = ask(api, mine, "POST", "/test/catalog/products", PRODUCT).json()["product"]
    path = f"/test/catalog/products/{made['productId']}"
    assert ask(api, mine, "PATCH", path, {"name": "Cup"}).status_code == 200
    changed, created = entries(api, environment="test")
    assert (created["action"], created["target"]) == ("product.create", made["productId"])
    assert created["request"] == PRODUCT
    assert created["after"]["product"]["name"] == "Mug"
    assert (changed["action"], changed["target"]) == ("product.update", made["productId"])
    assert (changed["before"]["name"], changed["after"]["name"]) == ("Mug", "Cup")
    assert changed["actor"] == f"Ada (ik_****{mine[-4:]})"
    assert (changed["via"], changed["address"]) == ("api", "127.0.0.1")
    assert (changed["outcome"], changed["error"]) == ("done", None)


def test_a_change_that_failed_is_recorded_with_its_error(api: Api) -> None:
    ask(api, key(api, "support"), "POST", "/test/refunds", REFUND)
    (entry,) = entries(api, outcome="failed")
    assert entry["action"] == "refund.create"
    assert entry["error"].startswith("PAYMENT_NOT_FOUND: ")
    assert entry["request"] == REFUND


def test_the_log_never_has_a_stripe_key(api: Api) -> None:
    secret = "sk_test_thatNobodyMaySee1234"
    ask(api, key(api), "PUT", "/test/config", {"secretKey": secret})
    (entry,) = entries(api, action="stripe_key.set")
    assert entry["request"] == {"secretKey": "****"}
    assert secret not in str(api.books.rows("SELECT * FROM billhook.audit_log"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/test/catalog/products", rb'{"name": "Mug", "metadata": {"a\u0000b": "\ud800"}}'),
        ("/test/catalog/products", b'{"name": "Mug", "surprise": ' + b"9" * 400 + b"}"),
        ("/test/catalog/products", b'{"name": ' + b"[" * 200 + b"]" * 200 + b"}"),
        ("/test/catalog/products", b'{"name": 1e400}'),
        ("/test/subscriptions/sub_%00/cancel", b"{}"),
        ("/nowhere/catalog/products", b'{"name": "Mug"}'),
    ],
)
def test_a_request_that_cannot_be_stored_is_refused_as_ever(
    api: Api, path: str, body: bytes
) -> None:
    answer = api.http.post(
        f"/api/payments/stripe{path}",
        content=body,
        headers={"Authorization": f"Bearer {key(api)}"},
    )
    assert answer.status_code == 400, answer.text
    for each in entries(api):
        assert each["outcome"] == "failed"
        assert each["error"].startswith("INVALID_INPUT: ")


def test_the_log_has_no_client_secret_no_email_and_no_claims(api: Api) -> None:
    """What Stripe and Billhook return is recorded, too."""
    mine = key(api)
    v1 = api.stripe.v1
    customer = v1.customers.create({"email": "ada@private.example"})
    card = v1.payment_methods.attach("pm_card_authenticationRequired", {"customer": customer.id})
    charged = ask(
        api,
        mine,
        "POST",
        "/test/charges",
        {
            "customerId": customer.id,
            "paymentMethodId": card.id,
            "amount": 900,
            "currency": "eur",
            "idempotencyKey": "charge-1",
        },
    )
    assert charged.json()["charge"]["clientSecret"], charged.text
    paid = v1.payment_intents.create(
        {
            "amount": 900,
            "currency": "eur",
            "confirm": True,
            "payment_method": "pm_card_visa",
            "receipt_email": "bob@private.example",
        }
    )
    assert ask(api, mine, "POST", "/test/refunds", {"payment": paid.id}).status_code == 201
    acting = {"role": "authenticated", "claims": {"sub": "u1", "phone": "+49 1234"}}
    ask(api, mine, "POST", "/test/subscriptions/sub_1/cancel", {"actAs": acting})
    product = ask(
        api, mine, "POST", "/test/catalog/products", {"name": "M", "metadata": {"email": "x@y.zz"}}
    ).json()["product"]["productId"]
    ask(api, mine, "PATCH", f"/test/catalog/products/{product}", {"name": "N"})
    log = str(api.books.rows("SELECT * FROM billhook.audit_log"))
    assert "'amount': 900" in log
    for secret in ("_secret_", "private.example", "+49 1234", "x@y.zz", "hooks.stripe.com"):
        assert secret not in log, secret


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billhook.audit_log SET actor = 'someone else'",
        "UPDATE billhook.audit_log SET outcome = 'failed'",
        "UPDATE billhook.audit_log SET after = NULL",
        "DELETE FROM billhook.audit_log",
        "TRUNCATE billhook.audit_log",
    ],
)
def test_entries_cannot_be_changed_or_removed(api: Api, statement: str) -> None:
    ask(api, key(api), "POST", "/test/catalog/products", PRODUCT)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="cannot be changed"):
        api.books.execute(statement)


@pytest.mark.parametrize(
    "change", ["actor = 'someone else'", "target = NULL", "target = 'prod_2'", "before = NULL"]
)
def test_an_entry_without_a_result_gets_only_that(api: Api, change: str) -> None:
    api.books.execute("""
        INSERT INTO billhook.audit_log (action, target, actor, via, before)
        VALUES ('product.update', 'prod_1', 'Ada', 'api', '{}')""")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="cannot be changed"):
        api.books.execute(f"UPDATE billhook.audit_log SET {change}, outcome = 'done'")
    api.books.execute("UPDATE billhook.audit_log SET outcome = 'done', after = '{}'")


def test_a_change_that_is_cancelled_has_no_result(api: Api) -> None:
    """Nobody knows what Stripe did of it."""

    async def work(database: Database) -> None:
        log = AuditLog(database)
        need, ada = Need("admin", "refund.create"), Grant("Ada")
        with contextlib.suppress(asyncio.CancelledError):
            async with log.recorded(need, ada, "test", via="cli", address=None, parameters={}):
                raise asyncio.CancelledError

    api.books.run(work)
    assert api.books.row("SELECT outcome, ended_at FROM billhook.audit_log") == {
        "outcome": None,
        "ended_at": None,
    }


def test_an_entry_without_a_result_says_what_it_was_about(api: Api) -> None:
    """The server may stop while Stripe is asked."""

    async def work(database: Database) -> None:
        need = Need("support", "refund.create", made=("refund", "refundId"))
        await AuditLog(database).begin(
            *(need, Grant("Ada"), "test"),
            via="dashboard",
            address=None,
            parameters={"environment": "test", "reference": "pi_1"},
        )

    api.books.run(work)
    assert api.books.row("SELECT target, request FROM billhook.audit_log") == {
        "target": None,
        "request": {"reference": "pi_1"},
    }


def test_a_refund_that_failed_in_the_dashboard_is_recorded_with_its_payment(api: Api) -> None:
    for each in api.books.apply(paid(1)):
        assert not isinstance(each, Exception), each
    admin = Visitor(api.url)
    admin.sign_in(key(api, name="Ada"))
    admin.send("/test/transactions/pi_1/refund", amount="1", key=str(uuid4()))
    (entry,) = entries(api)
    assert (entry["action"], entry["outcome"]) == ("refund.create", "failed")
    assert entry["request"]["reference"] == "pi_1"
    assert entry["request"]["amount"] == "1"


def test_a_persons_own_words_and_addresses_in_errors_are_not_in_the_log(api: Api) -> None:
    body = {"comment": "Ask for Ada", "idempotencyKey": "ada.l+shop@private.example"}
    ask(api, key(api), "POST", "/test/subscriptions/sub_none/cancel", body)
    (entry,) = entries(api)
    assert entry["outcome"] == "failed"
    assert entry["request"]["comment"] == "****"
    assert "private.example" not in str(entry)


def test_nothing_changes_when_the_entry_cannot_be_written(api: Api) -> None:
    api.books.execute("ALTER TABLE billhook.audit_log ADD CHECK (action <> 'product.create')")
    before = api.stripe.v1.products.list().data
    answer = ask(api, key(api), "POST", "/test/catalog/products", PRODUCT)
    assert answer.status_code >= 500
    assert len(api.stripe.v1.products.list().data) == len(before)


def test_reading_leaves_no_entry(api: Api) -> None:
    ask(api, key(api), "GET", "/test/transactions")
    ask(api, key(api), "POST", "/test/refunds/preview", REFUND)
    assert entries(api) == []


def test_a_key_for_test_mode_sees_only_entries_of_test_mode(api: Api) -> None:
    ask(api, key(api), "POST", "/test/sync")
    ask(api, key(api), "POST", "/live/sync")
    ask(api, key(api), "POST", "/sync")
    found = ask(api, key(api, "admin", "test"), "GET", "/audit-log").json()["entries"]
    assert [each["environment"] for each in found] == ["test"]
    assert [each["environment"] for each in entries(api)] == [None, "live", "test"]


def test_the_time_of_a_keys_last_use_is_known(api: Api) -> None:
    used, unused = key(api, name="used"), key(api, name="unused")
    assert used != unused
    ask(api, used, "GET", "/status")
    rows = api.books.rows(
        "SELECT name, last_used_at FROM billhook.api_keys WHERE name LIKE '%used'"
    )
    assert {row["name"]: row["last_used_at"] is not None for row in rows} == {
        "used": True,
        "unused": False,
    }


def test_the_command_line_shows_the_log(api: Api, linked: Billhook) -> None:
    assert linked("sync").code == 0
    listed = linked("audit-log", "--action", "mirror.sync", "--json")
    (entry,) = listed.json["entries"]
    assert (entry["via"], entry["outcome"]) == ("cli", "done")
    assert "mirror.sync" in linked("audit-log").out
    assert "No changes match" in linked("audit-log", "--action", "nothing").out


def test_the_dashboard_obeys_the_role_and_records_changes(api: Api) -> None:
    viewer = Visitor(api.url)
    viewer.sign_in(key(api, "viewer", name="Vi"))
    assert viewer.get("/test/transactions").status_code == 200
    refused = viewer.send("/test/new-product", name="Mug")
    assert refused.status_code == 403
    assert "role viewer" in refused.text
    admin = Visitor(api.url)
    admin.sign_in(key(api, name="Ada"))
    assert admin.send("/test/new-product", name="Mug", key=str(uuid4())).status_code == 303
    (entry,) = entries(api)
    assert (entry["action"], entry["via"], entry["outcome"]) == (
        "product.create",
        "dashboard",
        "done",
    )
    assert (
        entry["target"]
        == api.books.row("SELECT product_id AS id FROM payments.stripe_products")["id"]
    )
    assert entry["after"]["name"] == "Mug"
    assert entry["actor"].startswith("Ada (ik_")
    assert admin.send("/test/new-product", name="", key=str(uuid4())).status_code == 400
    (refused, _) = entries(api)
    assert refused["error"].startswith("INVALID_INPUT: name: ")
    assert "csrf" not in entry["request"]
    test_only = Visitor(api.url)
    test_only.sign_in(key(api, "admin", "test"))
    assert test_only.get("/test/keys").status_code == 403
    assert test_only.get("/live/transactions").status_code == 403
    assert "/test/keys" not in test_only.read("/test")
    csrf = re.search(r'name="csrf" value="([^"]+)"', test_only.read("/test/new-product"))
    assert csrf is not None
    made = test_only.http.post("/test/keys", data={"csrf": csrf[1], "kind": "admin"})
    assert made.status_code == 403


@pytest.mark.parametrize(("role", "buttons"), [("viewer", 0), ("support", 1), ("admin", 9)])
def test_a_role_sees_only_the_buttons_that_it_may_press(
    api: Api, role: KeyRole, buttons: int
) -> None:
    for each in api.books.apply(
        paid(1),
        event("product.created", product()),
        event("price.created", price()),
        event("customer.created", customer()),
        event("customer.subscription.created", subscription()),
    ):
        assert not isinstance(each, Exception), each
    visitor = Visitor(api.url)
    visitor.sign_in(key(api, role))
    pages = (
        "", "/transactions", "/transactions/pi_1", "/customers", "/customers/cus_1", "/catalog",
        "/catalog/prod_1", "/subscriptions", "/subscriptions/sub_1", "/events", "/settings",
        "/settings/mirror", "/settings/policies", "/keys",
    )  # fmt: skip
    forms = [
        (path, form)
        for path in pages
        for form in re.findall(
            r'<form[^>]* method="post"[^>]*>.*?</form>', visitor.read(f"/test{path}"), re.S
        )
        if "<button" in form and "/sign-out" not in form
    ]
    assert len(forms) >= buttons
    assert buttons or not forms, forms[0]
    assert (visitor.get("/test/new-product").status_code == 200) is (role == "admin")


def test_a_restored_archive_is_recorded_with_who_restored_it(
    api: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = uuid4()
    api.books.execute(
        "INSERT INTO billhook.archives (id, environment, account_id)"
        f" SELECT '{archive}', 'test', provider_account_id FROM payments.provider_connections"
    )
    monkeypatch.setenv("DATABASE_URL", api.books.dsn)
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    ran = billhook("archive", "restore", str(archive), "--yes")
    assert ran.code == 0, ran.err
    (entry,) = entries(api)
    assert (entry["action"], entry["target"]) == ("archive.restore", str(archive))
    assert (entry["via"], entry["outcome"]) == ("cli", "done")
    assert "@" in entry["actor"]


def test_the_dashboard_creates_rotates_and_shows_keys(api: Api) -> None:
    admin = Visitor(api.url)
    admin.sign_in(key(api, name="Ada"))
    made = admin.send(
        "/test/keys", kind="admin", name="Bo", role="support", environments="test", days="30"
    )
    assert made.status_code == 201
    bo = re.search(r"ik_[0-9a-f]{48}", made.text)
    assert bo is not None
    assert ask(api, bo[0], "GET", "/test/transactions").status_code == 200
    assert ask(api, bo[0], "GET", "/live/transactions").status_code == 403
    stored = api.books.row(
        "SELECT id, role, expires_at - now() > interval '29 days' AS lasts"
        " FROM billhook.api_keys WHERE name = 'Bo'"
    )
    assert (stored["role"], stored["lasts"]) == ("support", True)
    shown = admin.text("/test/keys")
    assert "support, test mode only" in shown
    rotated = admin.send(f"/test/keys/{stored['id']}/rotate")
    new = re.search(r"ik_[0-9a-f]{48}", rotated.text)
    assert new is not None
    assert new[0] != bo[0]
    for each in (bo[0], new[0]):
        assert ask(api, each, "GET", "/test/transactions").status_code == 200
    days = api.books.row(
        "SELECT extract(day FROM expires_at - now()) AS left FROM billhook.api_keys WHERE id = "
        f"'{stored['id']}'"
    )
    assert days["left"] < 1
    assert [each["action"] for each in entries(api)] == ["key.rotate", "key.create"]
    assert entries(api)[1]["target"] == str(stored["id"])
    assert entries(api)[0]["after"]["name"] == "Bo"
    assert new[0] not in str(api.books.rows("SELECT * FROM billhook.audit_log"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("role", "owner"), ("environments", "prod"), ("days", "soon"), ("days", "0")],
)
def test_a_key_with_a_wrong_role_environment_or_lifetime_is_not_created(
    api: Api, visitor: Visitor, field: str, value: str
) -> None:
    before = len(api.books.rows("SELECT FROM billhook.api_keys"))
    answer = visitor.send("/test/keys", kind="admin", **{field: value})
    assert answer.status_code == 400
    assert len(api.books.rows("SELECT FROM billhook.api_keys")) == before


def test_the_audit_page_shows_filters_and_exports_the_log(api: Api) -> None:
    ada = key(api, name="=Ada")
    ask(api, ada, "POST", "/test/catalog/products", PRODUCT)
    ask(api, ada, "POST", "/test/refunds", REFUND)
    admin = Visitor(api.url)
    admin.sign_in(ada)
    page = admin.text("/test/audit-log")
    assert "product.create" in page
    assert "refund.create" in page
    assert "PAYMENT_NOT_FOUND" in page
    assert "product.create" not in admin.text("/test/audit-log?outcome=failed").split("Time")[1]
    exported = list(csv.DictReader(io.StringIO(admin.read("/test/audit-log.csv?outcome=done"))))
    assert [each["action"] for each in exported] == ["product.create"]
    assert exported[0]["actor"].startswith("'=Ada")
    viewer = Visitor(api.url)
    viewer.sign_in(key(api, "viewer"))
    assert viewer.get("/test/audit-log").status_code == 403
