"""Setting keys, the managed endpoint, and what another account means (contract section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from api import SERVERS, STRIPE_KEY, Api, serving
from billhook.access.secrets import SecretStore, stripe_key_name, webhook_secret_name
from billhook.account.endpoint_events import EVENTS
from billhook.mirror import archives
from billhook.mirror.sync.ranges import LISTINGS
from billhook.postgres import Database
from billhook.settings import Settings
from books import Books
from http_tokens import ANONYMOUS_KEY, JWT_SECRET, SIGNING_SECRET, token
from stripe_events import customer, event
from waiting import until

_accounts = count()


@pytest.fixture
def fresh(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook with a public URL and no key yet."""
    with serving(database_url, sandbox, public_url="http://127.0.0.1:9") as found:
        yield found


def new_key(mode: str = "test") -> str:
    return f"sk_{mode}_conn{next(_accounts)}x{id(_accounts)}_1"


def stripe_get(api: Api, key: str, path: str) -> Any:
    return httpx.get(f"{api.stripe_url}{path}", auth=(key, ""), timeout=60).json()


def stripe_post(api: Api, key: str, path: str, **data: Any) -> Any:
    answer = httpx.post(f"{api.stripe_url}{path}", auth=(key, ""), data=data, timeout=60)
    answer.raise_for_status()
    return answer.json()


def set_key(api: Api, key: str, environment: str = "test") -> httpx.Response:
    return api.admin("PUT", f"/{environment}/config", {"secretKey": key})


def connection(api: Api, environment: str = "test") -> Any:
    found = api.admin("GET", "/status").json()["connections"]
    return next(each for each in found if each["environment"] == environment)


def test_permissions_that_a_restricted_key_lacks_are_named(fresh: Api) -> None:
    lacking = {
        "customers": "Customers: read",
        "events": "Events: read",
        "payment_intents": "PaymentIntents: read",
        "charges": "Charges: read",
        "refunds": "Refunds: read",
        "invoice_payments": "Invoice Payments: read",
        "webhook_endpoints": "Webhook Endpoints: write",
    }
    key = new_key().replace("sk_", "rk_")
    access = {each: "read" if each == "webhook_endpoints" else "none" for each in lacking}
    given = {"key": key, "access": access}
    httpx.post(f"{fresh.stripe_url}/_sandbox/restrict_key", json=given).raise_for_status()
    answer = set_key(fresh, key)
    assert answer.status_code == 400
    named = ", ".join(lacking.values())
    assert answer.json()["message"] == f"The restricted key lacks permissions: {named}."


def test_both_environments_are_always_shown(fresh: Api) -> None:
    found = fresh.admin("GET", "/status").json()["connections"]
    assert [each["environment"] for each in found] == ["test", "live"]
    assert found[0] == {
        "environment": "test",
        "status": "unconfigured",
        "accountId": None,
        "accountEmail": None,
        "accountLivemode": None,
        "webhookEndpointId": None,
        "webhookEndpointUrl": None,
        "webhookConfiguredAt": None,
        "maskedKey": None,
        "lastSyncedAt": None,
        "lastSyncStatus": None,
        "lastSyncError": None,
        "lastSyncCounts": {},
    }
    assert fresh.admin("GET", "/config").json() == {
        "keys": [{"environment": "test", "value": None}, {"environment": "live", "value": None}]
    }


def test_one_request_connects_sets_up_the_endpoint_and_syncs(fresh: Api) -> None:
    key = new_key()
    product = stripe_post(fresh, key, "/v1/products", name="Tea")
    answer = set_key(fresh, f"  {key} ")
    assert answer.status_code == 200
    masked = f"sk_test_****{key[-4:]}"
    assert answer.json()["keys"][0] == {"environment": "test", "value": masked}
    found = connection(fresh)
    assert (found["status"], found["maskedKey"]) == ("connected", masked)
    assert found["accountId"].startswith("acct_")
    assert (found["lastSyncStatus"], found["lastSyncError"]) == ("succeeded", None)
    nothing = dict.fromkeys(LISTINGS, 0)
    assert found["lastSyncCounts"] == nothing | {"products": 1}
    (endpoint,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
    assert endpoint["id"] == found["webhookEndpointId"]
    assert endpoint["url"] == "http://127.0.0.1:9/api/webhooks/stripe/test"
    assert sorted(endpoint["enabled_events"]) == sorted(EVENTS)
    assert endpoint["metadata"] == {
        "managed_by": "insforge",
        "insforge_webhook": "stripe_payments",
        "insforge_environment": "test",
        "insforge_endpoint_path": "/api/webhooks/stripe/test",
        "insforge_endpoint_url": "http://127.0.0.1:9/api/webhooks/stripe/test",
    }
    listed = fresh.admin("GET", "/test/catalog").json()
    assert [each["productId"] for each in listed["products"]] == [product["id"]]


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ("test", "sk_live_x_1"),
        ("live", "sk_test_x_1"),
        ("test", "pk_test_x"),
        ("test", "nonsense"),
        ("test", "sk_test_ž"),
    ],
)
def test_a_key_of_the_wrong_kind_is_refused_before_stripe_is_asked(
    fresh: Api, environment: str, key: str
) -> None:
    answer = set_key(fresh, key, environment)
    assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")
    assert "nextActions" in answer.json()
    assert connection(fresh, environment)["status"] == "unconfigured"


def test_a_key_that_stripe_refuses_changes_nothing(fresh: Api) -> None:
    good, bad = new_key(), new_key()
    set_key(fresh, good)
    httpx.post(
        f"{fresh.stripe_url}/_sandbox/revoke_key", json={"key": bad}, timeout=60
    ).raise_for_status()
    before = connection(fresh)
    answer = set_key(fresh, bad)
    assert (answer.status_code, answer.json()["error"]) == (401, "PAYMENT_CONFIG_INVALID")
    assert bad not in answer.text
    assert connection(fresh) == before


def test_the_same_key_again_does_nothing(fresh: Api) -> None:
    key = new_key()
    set_key(fresh, key)
    before = connection(fresh)
    stripe_post(fresh, key, "/v1/products", name="Later")
    assert set_key(fresh, key).status_code == 200
    assert connection(fresh) == before


def test_a_new_key_of_the_same_account_keeps_rows_and_endpoint(fresh: Api) -> None:
    key = new_key()
    stripe_post(fresh, key, "/v1/products", name="Tea")
    set_key(fresh, key)
    before = connection(fresh)
    rolled = f"{key.rsplit('_', 1)[0]}_2"
    assert set_key(fresh, rolled).status_code == 200
    after = connection(fresh)
    assert after["maskedKey"] == f"sk_test_****{rolled[-4:]}"
    assert {**after, "maskedKey": None} == {**before, "maskedKey": None}
    assert len(fresh.admin("GET", "/test/catalog/products").json()["products"]) == 1


def test_another_account_archives_the_rows_and_keeps_the_ledger(fresh: Api) -> None:
    first, second = new_key(), new_key()
    stripe_post(fresh, first, "/v1/products", name="Tea")
    set_key(fresh, first)
    fresh.deliver(event("customer.created", customer("cus_of_first")))
    stripe_post(fresh, second, "/v1/products", name="Coffee")
    assert set_key(fresh, second).status_code == 200

    listed = fresh.admin("GET", "/test/catalog/products").json()["products"]
    assert [each["name"] for each in listed] == ["Coffee"]
    assert fresh.admin("GET", "/test/customers").json()["customers"] == []
    assert len(fresh.admin("GET", "/test/webhook-events").json()["webhookEvents"]) == 1
    assert stripe_get(fresh, first, "/v1/webhook_endpoints")["data"] == []
    assert len(stripe_get(fresh, second, "/v1/webhook_endpoints")["data"]) == 1


def test_an_archive_comes_back_when_its_account_does(fresh: Api) -> None:
    first, second = new_key(), new_key()
    stripe_post(fresh, first, "/v1/products", name="Tea")
    set_key(fresh, first)
    told = event("customer.created", customer("cus_of_first"))
    fresh.deliver(told)
    set_key(fresh, second)
    (archive,) = fresh.books.run(archives.archives)

    refused = pytest.raises(Exception, match="is connected")
    with refused:
        fresh.books.run(lambda database: archives.restore(database, archive.id))
    # Also while that one's own key is out of order.
    fresh.books.execute("UPDATE payments.provider_connections SET status = 'error'")
    with pytest.raises(Exception, match="is connected"):
        fresh.books.run(lambda database: archives.restore(database, archive.id))
    set_key(fresh, first)
    restored: int = fresh.books.run(lambda database: archives.restore(database, archive.id))
    assert restored == 2
    assert fresh.admin("POST", f"/test/webhook-events/{told['id']}/replay").status_code == 200
    ids = [
        each["providerCustomerId"]
        for each in fresh.admin("GET", "/test/customers").json()["customers"]
    ]
    assert ids == ["cus_of_first"]
    with pytest.raises(Exception, match="no archive"):
        fresh.books.run(lambda database: archives.restore(database, UUID(int=0)))


def test_an_event_of_an_archived_account_is_not_replayed(fresh: Api) -> None:
    first, second = new_key(), new_key()
    stripe_post(fresh, first, "/v1/products", name="Tea")
    set_key(fresh, first)
    old = event("customer.created", customer("cus_of_first"))
    fresh.deliver(old)
    set_key(fresh, second)
    answer = fresh.admin("POST", f"/test/webhook-events/{old['id']}/replay")
    assert answer.status_code == 409
    assert fresh.admin("GET", "/test/customers").json()["customers"] == []


def test_a_failed_event_of_an_archived_account_is_not_applied_when_stripe_sends_it_again(
    fresh: Api,
) -> None:
    first, second = new_key(), new_key()
    set_key(fresh, first)
    fresh.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()""")
    old = event("customer.created", customer("cus_of_first"))
    assert fresh.deliver(old).status_code == 500
    fresh.books.execute("DROP FUNCTION refuse CASCADE")
    set_key(fresh, second)
    again = fresh.deliver(old)
    assert (again.status_code, "It was not applied" in again.text) == (409, True)
    assert fresh.admin("GET", "/test/customers").json()["customers"] == []
    set_key(fresh, first)
    archive = fresh.books.run(archives.archives)[-1]
    fresh.books.run(lambda database: archives.restore(database, archive.id))
    assert fresh.deliver(old).status_code == 200


HOLD = """
    CREATE TABLE held (reason text);
    INSERT INTO held VALUES ('a large account takes a while');
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        WHILE EXISTS (SELECT FROM held) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN OLD;
    END $$;
    CREATE TRIGGER hold BEFORE DELETE ON payments.customers FOR EACH ROW EXECUTE FUNCTION hold()
"""
WAITING = """
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ~ '(load|save)_batch'
      AND wait_event_type = 'Lock'
"""


@pytest.fixture
def unmanaged(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook without a public URL, and without a signing secret in its settings."""
    with serving(database_url, sandbox, stripe_test_webhook_secret=None) as found:
        yield found


def let_account_have(api: Api, secret: str) -> None:
    """A stored signing secret, as of a managed endpoint."""

    async def work(database: Database) -> None:
        settings = Settings(
            database_url=SecretStr(api.books.dsn), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
        )
        await SecretStore(database, settings).set("STRIPE_TEST_WEBHOOK_SECRET", secret)

    api.books.run(work)


@pytest.mark.parametrize("failed_before", [False, True])
def test_an_event_that_waits_while_another_account_is_connected_is_not_booked_to_that_one(
    unmanaged: Api, failed_before: bool
) -> None:
    first, second = new_key(), new_key()
    set_key(unmanaged, first)
    let_account_have(unmanaged, "whsec_first")

    def deliver(told: Any) -> httpx.Response:
        return unmanaged.deliver(told, secret="whsec_first")

    assert deliver(event("customer.created", customer("cus_1"))).status_code == 200
    late = event("customer.created", customer("cus_2"))
    if failed_before:
        unmanaged.books.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'no'; END $$;
            CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
            WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()""")
        assert deliver(late).status_code == 500
        unmanaged.books.execute("DROP FUNCTION refuse CASCADE; DELETE FROM billhook.event_retries")
    unmanaged.books.execute(HOLD)
    with ThreadPoolExecutor(2) as pool:
        switching = pool.submit(set_key, unmanaged, second)
        while not unmanaged.books.rows(
            "SELECT FROM pg_locks WHERE relation = 'payments.webhook_events'::regclass "
            "AND mode = 'ShareRowExclusiveLock' AND granted"
        ):
            pass
        waiting = pool.submit(deliver, late)
        while not unmanaged.books.rows(WAITING):
            pass
        unmanaged.books.execute("DELETE FROM held")
        assert switching.result().status_code == 200
        assert waiting.result().status_code == 409
    assert unmanaged.books.rows("SELECT FROM payments.customers") == []
    assert deliver(late).status_code in (409, 500)  # a process may remember the revoked secret

    set_key(unmanaged, first)
    let_account_have(unmanaged, "whsec_first")
    assert deliver(late).status_code == 200
    shown = unmanaged.books.rows("SELECT provider_customer_id AS id FROM payments.customers")
    assert shown == [{"id": "cus_2"}]


def test_a_key_set_while_another_account_is_synced_ends_in_its_own_rows(
    fresh: Api, sandbox: str
) -> None:
    """The sync of the account before writes nothing into the mirror of the next."""
    first, second = new_key(), new_key()
    for number in range(12):
        stripe_post(fresh, first, "/v1/customers", name=f"First {number}")
    stripe_post(fresh, second, "/v1/customers", name="Second")
    latency(sandbox, 0.15)
    try:
        with ThreadPoolExecutor(2) as pool:
            before = pool.submit(set_key, fresh, first)
            while connection(fresh)["accountId"] is None:
                pass
            after = pool.submit(set_key, fresh, second)
            assert (before.result().status_code, after.result().status_code) == (200, 200)
    finally:
        latency(sandbox, 0)
    fresh.admin("POST", "/test/sync")
    found = connection(fresh)
    assert (found["status"], found["lastSyncStatus"]) == ("connected", "succeeded")
    rows = fresh.books.rows("SELECT name FROM payments.customers")
    assert [row["name"] for row in rows] == ["Second"]


def test_a_sync_that_asked_for_the_account_before_does_not_bring_it_back(
    fresh: Api, sandbox: str
) -> None:
    first, second = new_key(), new_key()
    set_key(fresh, first)
    before = connection(fresh)["accountId"]
    latency(sandbox, 1.5)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(fresh.admin, "POST", "/test/sync")
            while not fresh.admin("GET", "/test/sync").json()["running"]:
                pass
            latency(sandbox, 0)  # what was asked already is still on its way
            assert set_key(fresh, second).status_code == 200
            running.result()
    finally:
        latency(sandbox, 0)
    assert connection(fresh)["accountId"] not in (None, before)
    archived = fresh.books.rows("SELECT account_id FROM billhook.archives")
    assert [row["account_id"] for row in archived] == [before]


def test_a_key_removed_during_a_sync_stays_removed(fresh: Api, sandbox: str) -> None:
    key = new_key()
    set_key(fresh, key)
    latency(sandbox, 0.15)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(fresh.admin, "POST", "/test/sync")
            while not fresh.admin("GET", "/test/sync").json()["running"]:
                pass
            assert fresh.admin("DELETE", "/test/config").status_code == 200
            running.result()
    finally:
        latency(sandbox, 0)
    found = connection(fresh)
    assert (found["status"], found["maskedKey"]) == ("unconfigured", None)


def latency(sandbox: str, seconds: float) -> None:
    httpx.post(
        f"{sandbox}/_sandbox/latency", json={"seconds": seconds}, timeout=60
    ).raise_for_status()


def test_removing_the_key_takes_the_endpoint_along_and_keeps_the_rows(fresh: Api) -> None:
    key = new_key()
    stripe_post(fresh, key, "/v1/products", name="Tea")
    set_key(fresh, key)
    answer = fresh.admin("DELETE", "/test/config")
    assert answer.json()["keys"][0] == {"environment": "test", "value": None}
    assert stripe_get(fresh, key, "/v1/webhook_endpoints")["data"] == []
    found = connection(fresh)
    assert found["status"] == "unconfigured"
    assert found["lastSyncStatus"] == "failed"
    assert found["lastSyncError"] == "STRIPE_TEST_SECRET_KEY is not configured"
    assert (found["webhookEndpointId"], found["lastSyncedAt"], found["lastSyncCounts"]) == (
        None,
        None,
        {},
    )
    assert len(fresh.admin("GET", "/test/catalog/products").json()["products"]) == 1
    again = fresh.admin("DELETE", "/test/config")
    assert (again.status_code, again.json()["error"]) == (404, "PAYMENT_CONFIG_NOT_FOUND")


def test_the_environments_are_independent(fresh: Api) -> None:
    test, live = new_key(), new_key("live")
    set_key(fresh, test)
    set_key(fresh, live, "live")
    assert connection(fresh, "live")["accountLivemode"] is True
    fresh.admin("DELETE", "/test/config")
    assert connection(fresh, "live")["status"] == "connected"
    assert len(stripe_get(fresh, live, "/v1/webhook_endpoints")["data"]) == 1


class TestEndpoint:
    def test_an_endpoint_in_order_stays_as_it_is(self, fresh: Api) -> None:
        key = new_key()
        set_key(fresh, key)
        before = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        answer = fresh.admin("POST", "/test/webhook")
        assert answer.json()["connection"]["webhookEndpointId"] == before[0]["id"]
        assert stripe_get(fresh, key, "/v1/webhook_endpoints")["data"] == before

    def test_a_disabled_or_changed_endpoint_is_mended_in_place(self, fresh: Api) -> None:
        key = new_key()
        set_key(fresh, key)
        (before,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        stripe_post(fresh, key, f"/v1/webhook_endpoints/{before['id']}", disabled="true")
        fresh.admin("POST", "/test/webhook")
        (after,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        assert (after["id"], after["status"]) == (before["id"], "enabled")

    @pytest.mark.parametrize("action", ["start", "configure", "remove the key"])
    def test_a_copy_of_the_database_leaves_the_endpoint_of_the_original_alone(
        self, fresh: Api, database_url: str, sandbox: str, action: str
    ) -> None:
        """A dump restored for staging, with the same key and another public URL."""
        key = new_key()
        set_key(fresh, key)
        (before,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        url = None if action == "remove the key" else "http://127.0.0.1:10"
        with serving(database_url, sandbox, public_url=url) as copy:
            if action == "start":
                until(lambda: connection(copy)["webhookEndpointId"] != before["id"])
            elif action == "configure":
                copy.admin("POST", "/test/webhook")
            else:
                assert copy.admin("DELETE", "/test/config").status_code == 200
            after = stripe_get(copy, key, "/v1/webhook_endpoints")["data"]
        assert before in after
        new = [each["url"] for each in after if each != before]
        assert new == ([] if url is None else [f"{url}/api/webhooks/stripe/test"])

    def test_after_a_change_of_the_public_url_both_endpoints_are_accepted(
        self, fresh: Api, database_url: str, sandbox: str
    ) -> None:
        """Until the operator deletes the old one: no event is lost in between."""
        set_key(fresh, new_key())
        settings = Settings(
            database_url=SecretStr(database_url), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
        )
        with serving(database_url, sandbox, public_url="http://127.0.0.1:10") as moved:
            moved.admin("POST", "/test/webhook")

            async def accepted(database: Database) -> int:
                secrets = SecretStore(database, settings)
                return len(await secrets.get_with_old(webhook_secret_name("test")))

            assert moved.books.run(accepted) == 2
            assert connection(moved)["webhookEndpointUrl"].startswith("http://127.0.0.1:10/")

    def test_one_whose_secret_is_lost_is_replaced_without_an_orphan(self, fresh: Api) -> None:
        key = new_key()
        set_key(fresh, key)
        (before,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        fresh.books.execute(
            "UPDATE system.secrets SET is_active = false WHERE key = 'STRIPE_TEST_WEBHOOK_SECRET'"
        )
        fresh.admin("POST", "/test/webhook")
        (after,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        assert after["id"] != before["id"]

    def test_seventeen_endpoints_are_refused_with_what_to_do(self, fresh: Api) -> None:
        key = new_key()
        for number in range(16):
            stripe_post(
                fresh,
                key,
                "/v1/webhook_endpoints",
                url=f"https://{number}.example/hook",
                **{"enabled_events[]": "*"},
            )
        assert set_key(fresh, key).status_code == 200
        answer = fresh.admin("POST", "/test/webhook")
        assert answer.status_code == 400
        assert "16" in answer.json()["nextActions"]

    def test_without_a_public_url_it_says_so(self, database_url: str, sandbox: str) -> None:
        with serving(database_url, sandbox) as api:
            set_key(api, new_key())
            answer = api.admin("POST", "/test/webhook")
            assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")
            assert "BILLHOOK_PUBLIC_URL" in answer.json()["nextActions"]
            assert connection(api)["webhookEndpointId"] is None

    def test_endpoints_of_others_are_left_alone(self, fresh: Api) -> None:
        key = new_key()
        other = stripe_post(
            fresh,
            key,
            "/v1/webhook_endpoints",
            url="https://staging.example/api/webhooks/stripe/test",
            **{
                "enabled_events[]": "*",
                "metadata[managed_by]": "insforge",
                "metadata[insforge_webhook]": "stripe_payments",
                "metadata[insforge_environment]": "test",
            },
        )
        set_key(fresh, key)
        fresh.admin("DELETE", "/test/config")
        (left,) = stripe_get(fresh, key, "/v1/webhook_endpoints")["data"]
        assert left["id"] == other["id"]


@pytest.mark.parametrize(
    ("bearer", "status", "code"),
    [
        (None, 401, "AUTH_INVALID_CREDENTIALS"),
        (ANONYMOUS_KEY, 401, "AUTH_UNAUTHORIZED"),
        ("ik_" + "0" * 32, 401, "AUTH_INVALID_API_KEY"),
        ("user", 403, "AUTH_UNAUTHORIZED"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/status"),
        ("GET", "/config"),
        ("PUT", "/test/config"),
        ("DELETE", "/test/config"),
        ("POST", "/sync"),
        ("POST", "/test/sync"),
        ("POST", "/test/webhook"),
        ("GET", "/test/catalog"),
        ("POST", "/test/catalog/products"),
        ("PATCH", "/test/catalog/prices/price_1"),
        ("GET", "/test/transactions?limit=x"),
        ("GET", "/test/customers"),
        ("GET", "/test/webhook-events"),
        ("POST", "/test/webhook-events/evt_1/replay"),
    ],
)
def test_only_an_administrator_gets_in(
    shared_api: Api, method: str, path: str, bearer: str | None, status: int, code: str
) -> None:
    bearer = token() if bearer == "user" else bearer
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    answer = shared_api.http.request(method, f"/api/payments/stripe{path}", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


def test_a_start_without_row_level_security_is_warned_of_once(
    database_url: str, sandbox: str
) -> None:
    def warned() -> list[Any]:
        with capture_logs() as logged, serving(database_url, sandbox):
            pass
        return [each for each in logged if "row-level security is off" in each["event"]]

    warning, *_ = found = warned()
    assert len(found) == SERVERS
    assert len(warning["tables"]) == 2
    Books(database_url).execute("""
        ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
        ALTER TABLE payments.stripe_customer_portal_sessions ENABLE ROW LEVEL SECURITY;
    """)
    assert warned() == []


def test_a_key_in_the_environment_is_connected_at_start(database_url: str, sandbox: str) -> None:
    key = new_key()
    httpx.post(
        f"{sandbox}/v1/products", auth=(key, ""), data={"name": "Tea"}, timeout=60
    ).raise_for_status()
    with serving(database_url, sandbox, stripe_test_secret_key=key) as api:
        # Joins the sync of the start, or comes after it.
        result = api.admin("POST", "/test/sync").json()["results"][0]
        assert result["connection"]["status"] == "connected"
        assert result["connection"]["lastSyncCounts"]["products"] == 1


def test_an_environment_that_the_app_refuses_to_connect_does_not_hold_up_the_other(
    database_url: str, sandbox: str, caplog: pytest.LogCaptureFixture
) -> None:
    Books(database_url).execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no test account here'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON payments.provider_connections
        FOR EACH ROW WHEN (NEW.environment = 'test') EXECUTE FUNCTION refuse();
    """)
    keys = {"stripe_test_secret_key": new_key(), "stripe_live_secret_key": new_key("live")}
    with capture_logs() as logged, serving(database_url, sandbox, **keys) as api:
        until(lambda: connection(api, "live")["status"] == "connected")
        assert connection(api, "test")["status"] == "unconfigured"
    problems = [line for line in logged if line["event"].startswith("the Stripe connection has")]
    assert {(each["environment"], each["reason"]) for each in problems} == {
        ("test", "no test account here")
    }
    assert "shutdown failed" not in caplog.text


def test_only_admins_learn_that_the_encryption_key_is_another(
    database_url: str, sandbox: str
) -> None:
    stored_with = Settings(
        database_url=SecretStr(database_url),
        jwt_secret=SecretStr(JWT_SECRET),
        encryption_key=SecretStr("5f0c8e1b2d7a4936b1c8e0f7a2d95346"),
        _env_file=None,
    )

    async def work(database: Database) -> None:
        secrets = SecretStore(database, stored_with)
        await secrets.set(stripe_key_name("test"), STRIPE_KEY)
        await secrets.set(webhook_secret_name("test"), SIGNING_SECRET)

    Books(database_url).run(work)
    another = SecretStr("another key that is long and varied")
    with (
        serving(
            database_url, sandbox, encryption_key=another, stripe_test_webhook_secret=None
        ) as api,
        capture_logs() as lines,
    ):
        order = {
            "mode": "payment",
            "lineItems": [{"priceId": "price_1", "quantity": 1}],
            "successUrl": "https://app.test/",
            "cancelUrl": "https://app.test/",
        }
        for answer in (
            api.checkout(order, ANONYMOUS_KEY),
            api.deliver(event("customer.created", customer())),
        ):
            assert answer.status_code == 500
            assert answer.json() == {
                "error": "INTERNAL_ERROR",
                "message": "An unexpected error occurred. It was logged.",
                "statusCode": 500,
            }
        told = api.admin("POST", "/test/catalog/products", {"name": "Mug"}).json()
    assert "STRIPE_TEST_SECRET_KEY cannot be read" in told["message"]
    assert "Set ENCRYPTION_KEY" in told["nextActions"]
    logged = [line for line in lines if line["event"] == "request failed"]
    names = ["STRIPE_TEST_SECRET_KEY", "STRIPE_TEST_WEBHOOK_SECRET", "STRIPE_TEST_SECRET_KEY"]
    for line, name in zip(logged, names, strict=True):
        assert f"{name} cannot be read" in line["reason"]
        assert "Set ENCRYPTION_KEY" in line["next_actions"]
