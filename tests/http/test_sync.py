"""Sync: the mirror becomes what Stripe says, without undoing what events said since."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import Api, connect, serving
from billhook.kinds import TABLES
from billhook.mirror.sync.ranges import LISTINGS
from depth import by_depth
from stripe_events import customer, event


class Account:
    """A Stripe account of one test, spoken to directly."""

    def __init__(self, url: str) -> None:
        self.key = f"sk_test_sync{uuid4().hex}_1"
        self.http = httpx.Client(base_url=url, auth=(self.key, ""), timeout=30)

    def post(self, path: str, **data: Any) -> Any:
        answer = self.http.post(path, data=data)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str) -> Any:
        return self.http.get(path).json()

    def fault(self, **fault: Any) -> None:
        self.http.post("/_sandbox/fault", json=fault).raise_for_status()

    def fill(self, products: int = 1, customers: int = 0) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: self.post("/v1/products", name=f"P{n}"), range(products)))
            list(pool.map(lambda n: self.post("/v1/customers", name=f"C{n}"), range(customers)))

    def subscribe(self, **metadata: str) -> Any:
        product = self.post("/v1/products", name="Plan")
        price = self.post(
            "/v1/prices",
            product=product["id"],
            currency="eur",
            unit_amount="900",
            **{"recurring[interval]": "month"},
        )
        session = self.post(
            "/v1/checkout/sessions",
            mode="subscription",
            success_url="https://a.test",
            **{"line_items[0][price]": price["id"], "line_items[0][quantity]": "1"},
            **{f"subscription_data[metadata][{k}]": v for k, v in metadata.items()},
        )
        self.http.post("/_sandbox/pay", json={"session": session["id"]}).raise_for_status()
        return self.get(f"/v1/checkout/sessions/{session['id']}")["subscription"]


@pytest.fixture
def account(sandbox: str) -> Iterator[Account]:
    found = Account(sandbox)
    yield found
    found.http.close()


@pytest.fixture
def synced(database_url: str, sandbox: str, account: Account) -> Iterator[Api]:
    """Billhook connected to `account`; nothing is synced yet."""
    connect(database_url, sandbox, account.key)
    with serving(database_url, sandbox) as found:
        yield found


@pytest.fixture
def recovering(database_url: str, sandbox: str, account: Account) -> Iterator[Api]:
    """The same with a recovery worker, which leaves Stripe's event list alone."""
    connect(database_url, sandbox, account.key)
    with serving(database_url, sandbox, recovery=True, pull_seconds=86400) as found:
        yield found


def until(api: Api, condition: str) -> None:
    """Wait until `condition` holds in the database."""
    deadline = time.monotonic() + 60
    while not api.books.row(f"SELECT {condition} AS holds")["holds"]:
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)


def sync(api: Api, environment: str = "test") -> Any:
    answer = api.admin("POST", f"/{environment}/sync")
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return result


def names(api: Api, table: str, column: str = "name") -> list[str]:
    rows = api.books.rows(f"SELECT {column} AS x FROM payments.{table} ORDER BY 1")
    return [row["x"] for row in rows]


def versions(api: Api) -> dict[str, list[Any]]:
    """Which version of each row is stored: `xmin` changes with every write."""
    return {
        table: api.books.rows(f"SELECT id, xmin::text FROM payments.{table} ORDER BY id")
        for table in (*TABLES, "customer_mappings")
    }


def test_everything_arrives_whatever_the_number_of_pages(synced: Api, account: Account) -> None:
    account.fill(products=120, customers=230)
    result = sync(synced)
    nothing = dict.fromkeys(LISTINGS, 0)
    many = {"products": 120, "customers": 230}
    assert result["connection"]["lastSyncCounts"] == nothing | many
    assert result["connection"]["lastSyncStatus"] == "succeeded"
    assert result["subscriptions"] == {
        "environment": "test",
        "synced": 0,
        "unmapped": 0,
        "deleted": 0,
    }
    assert len(names(synced, "stripe_products")) == 120
    assert len(names(synced, "customers")) == 230


def test_what_is_inactive_is_mirrored_as_well(synced: Api, account: Account) -> None:
    product = account.post("/v1/products", name="Old", active="false")
    price = account.post("/v1/prices", product=product["id"], currency="eur", unit_amount="1")
    account.post(f"/v1/prices/{price['id']}", active="false")
    counts = sync(synced)["connection"]["lastSyncCounts"]
    assert (counts["products"], counts["prices"]) == (1, 1)
    rows = synced.books.rows("SELECT active FROM payments.stripe_prices")
    assert [row["active"] for row in rows] == [False]


def test_text_that_postgresql_cannot_hold_stops_no_sync(synced: Api, account: Account) -> None:
    account.post("/v1/customers", name="A\0da")
    assert sync(synced)["connection"]["lastSyncStatus"] == "succeeded"
    assert names(synced, "customers") == ["A\ufffdda"]


def test_a_second_sync_with_nothing_changed_writes_no_row(synced: Api, account: Account) -> None:
    account.fill(products=5, customers=5)
    account.subscribe(insforge_subject_type="team", insforge_subject_id="t1")
    sync(synced)
    before = versions(synced)
    again = sync(synced)
    assert again["connection"]["lastSyncStatus"] == "succeeded"
    assert versions(synced) == before


def test_subscriptions_are_counted_by_whether_their_subject_is_known(
    synced: Api, account: Account
) -> None:
    account.subscribe(insforge_subject_type="team", insforge_subject_id="t1")
    account.subscribe()
    result = sync(synced)
    assert result["subscriptions"] == {
        "environment": "test",
        "synced": 2,
        "unmapped": 1,
        "deleted": 0,
    }
    (mapping,) = synced.books.rows(
        "SELECT subject_type, subject_id FROM payments.customer_mappings"
    )
    assert mapping == {"subject_type": "team", "subject_id": "t1"}


def test_what_stripe_no_longer_has_is_removed_after_stripe_confirmed(
    synced: Api, account: Account
) -> None:
    account.fill(products=2, customers=2)
    sync(synced)
    product = account.get("/v1/products")["data"][0]["id"]
    gone = account.get("/v1/customers")["data"][0]["id"]
    account.http.delete(f"/v1/products/{product}").raise_for_status()
    account.http.delete(f"/v1/customers/{gone}").raise_for_status()
    synced.books.execute(
        "UPDATE payments.stripe_products SET provider_event_at = provider_event_at - interval '1h';"
        "UPDATE payments.customers SET provider_event_at = provider_event_at - interval '1 hour'"
    )
    result = sync(synced)
    assert result["connection"]["lastSyncStatus"] == "succeeded", result
    assert product not in names(synced, "stripe_products", "product_id")
    rows = synced.books.rows("SELECT provider_customer_id AS id, deleted FROM payments.customers")
    assert {row["id"]: row["deleted"] for row in rows}[gone] is True
    assert sum(row["deleted"] for row in rows) == 1


def test_rows_of_an_adopted_database_that_stripe_does_not_list_are_removed(
    synced: Api, account: Account
) -> None:
    """They have no version, beside rows that have one."""
    account.fill(products=1)
    sync(synced)
    synced.books.execute("""
        INSERT INTO payments.stripe_products (
            environment, product_id, name, active, provider_event_at)
        SELECT 'test', 'prod_gone' || n, 'Gone', true,
            CASE WHEN n > 2 THEN now() - interval '1 hour' END
        FROM generate_series(1, 4) AS n
    """)
    result = sync(synced)
    assert result["connection"]["lastSyncStatus"] == "succeeded", result
    (product,) = account.get("/v1/products")["data"]
    assert names(synced, "stripe_products", "product_id") == [product["id"]]


def test_a_row_that_events_brought_meanwhile_is_not_undone(synced: Api, account: Account) -> None:
    account.fill(customers=1)
    (known,) = account.get("/v1/customers")["data"]
    sync(synced)
    newer = event("customer.updated", {**known, "name": "Newer"})
    newer["created"] = known["created"] + 100_000
    synced.deliver(newer)
    sync(synced)
    assert names(synced, "customers") == ["Newer"]


def test_an_older_event_does_not_undo_a_sync(synced: Api, account: Account) -> None:
    account.fill(customers=1)
    (known,) = account.get("/v1/customers")["data"]
    sync(synced)
    older = event("customer.updated", {**known, "name": "Older"})
    older["created"] = known["created"] - 100_000
    synced.deliver(older)
    assert names(synced, "customers") == ["C0"]


def test_the_card_stays_known_when_an_event_names_only_its_id(
    synced: Api, account: Account
) -> None:
    buyer = account.post("/v1/customers", name="Ada")
    method = account.post("/v1/payment_methods/pm_card_visa/attach", customer=buyer["id"])
    account.post(
        f"/v1/customers/{buyer['id']}",
        **{"invoice_settings[default_payment_method]": method["id"]},
    )
    sync(synced)
    plain = account.get(f"/v1/customers/{buyer['id']}")
    changed = event("customer.updated", {**plain, "name": "Ada L."})
    changed["created"] = plain["created"] + 100_000
    synced.deliver(changed)
    (found,) = synced.admin("GET", "/test/customers").json()["customers"]
    assert (found["name"], found["paymentMethodBrand"], found["paymentMethodLast4"]) == (
        "Ada L.",
        "visa",
        "4242",
    )


def test_a_list_that_fails_says_so_and_the_others_stay(synced: Api, account: Account) -> None:
    account.fill(products=3, customers=3)
    account.fault(path_prefix="/v1/customers", status=500, times=3)  # the SDK tries three times
    result = sync(synced)
    assert result["connection"]["lastSyncStatus"] == "failed"
    assert "customers: " in result["connection"]["lastSyncError"]
    assert len(names(synced, "stripe_products")) == 3
    assert names(synced, "customers") == []


def test_a_row_that_the_app_refuses_is_named_and_the_others_are_mirrored(
    synced: Api, account: Account
) -> None:
    account.fill(products=3, customers=120)
    (gone, *_) = [each["id"] for each in account.get("/v1/products")["data"]]
    sync(synced)
    synced.books.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'we do not like it'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON payments.customers FOR EACH ROW
        WHEN (NEW.name = 'C77') EXECUTE FUNCTION refuse();
        CREATE TRIGGER refuse BEFORE DELETE ON payments.stripe_products FOR EACH ROW
        WHEN (OLD.product_id = '{gone}') EXECUTE FUNCTION refuse();
        DELETE FROM payments.customers""")
    account.http.delete(f"/v1/products/{gone}").raise_for_status()
    result = sync(synced)["connection"]
    assert result["lastSyncStatus"] == "failed"
    assert "we do not like it" in result["lastSyncError"]
    assert set(names(synced, "customers")) == {f"C{n}" for n in range(120)} - {"C77"}
    assert len(names(synced, "stripe_products")) == 3
    synced.books.execute("DROP FUNCTION refuse CASCADE")
    account.http.post("/_sandbox/advance", json={"seconds": 5}).raise_for_status()
    assert sync(synced)["connection"]["lastSyncStatus"] == "succeeded"
    assert len(names(synced, "customers")) == 120
    assert len(names(synced, "stripe_products")) == 2


def test_an_environment_without_key_is_a_result(synced: Api) -> None:
    result = sync(synced, "live")
    assert result["subscriptions"] is None
    assert result["connection"]["status"] == "unconfigured"
    assert result["connection"]["lastSyncError"] == "STRIPE_LIVE_SECRET_KEY is not configured"
    both = synced.admin("POST", "/sync").json()["results"]
    assert [each["environment"] for each in both] == ["test", "live"]


def test_a_revoked_key_is_a_result_that_says_so(synced: Api, account: Account) -> None:
    httpx.post(f"{synced.stripe_url}/_sandbox/revoke_key", json={"key": account.key}, timeout=60)
    result = sync(synced)
    assert (result["connection"]["status"], result["subscriptions"]) == ("error", None)
    assert result["connection"]["lastSyncStatus"] == "failed"
    assert account.key not in str(result)


def test_two_syncs_at_once_are_one(synced: Api, account: Account, database_url: str) -> None:
    account.fill(customers=150)
    with (
        serving(database_url, synced.stripe_url) as other,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = list(pool.map(sync, [synced, other, synced, other]))
    counts = [each["connection"]["lastSyncCounts"]["customers"] for each in answers]
    assert counts == [150] * 4
    started = synced.books.rows("SELECT list FROM billhook.sync_ranges WHERE list = 'products'")
    assert len(started) == 2  # the active and the inactive ones


def test_a_stopped_sync_goes_on_where_it_was(synced: Api, account: Account) -> None:
    account.fill(customers=250)
    sync(synced)
    # As a process leaves it that was killed after one page of the customers.
    synced.books.execute("""
        DELETE FROM payments.customers;
        UPDATE billhook.syncs SET finished_at = NULL, result = NULL;
        DELETE FROM billhook.sync_ranges WHERE list = 'customers'
    """)
    first_page = account.get("/v1/customers?limit=100")["data"]
    synced.books.rows(
        "INSERT INTO billhook.sync_ranges (environment, list, variant, since, after, objects)"
        " VALUES ('test', 'customers', 0, 1293840000, $1, 100) RETURNING id",
        first_page[-1]["id"],
    )
    result = sync(synced)
    assert result["connection"]["lastSyncCounts"]["customers"] == 250
    assert len(names(synced, "customers")) == 150


SEEDS = range(by_depth(1, 2, 20))
CHANGES = by_depth(200, 200, 10_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sync_and_a_stream_of_events_end_in_what_stripe_says(
    recovering: Api, account: Account, seed: int
) -> None:
    """Objects change, come and go while the sync reads; their events arrive shuffled."""
    synced = recovering
    chance = random.Random(seed)
    account.fill(products=150, customers=150)
    ids = [each["id"] for each in account.get("/v1/customers?limit=100")["data"]]

    def change(number: int) -> None:
        kind, known = number % 3, ids[(number * 7) % len(ids)]
        if kind == 0:
            account.post("/v1/customers", name=f"New {number}")
        elif kind == 1:  # a customer may be gone by then
            account.http.post(f"/v1/customers/{known}", data={"name": f"Changed {number}"})
        elif number % 4 == 0:
            account.http.delete(f"/v1/customers/{known}")

    def deliver_all() -> None:
        found = everything(account, "/v1/events?type=customer.*")
        chance.shuffle(found)
        with ThreadPoolExecutor(4) as senders:
            for answer in senders.map(synced.deliver, found):
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(6) as pool:
        running = pool.submit(sync, synced)
        list(pool.map(change, range(CHANGES)))
        delivering = pool.submit(deliver_all)
        assert running.result()["connection"]["lastSyncStatus"] == "succeeded"
        delivering.result()

    # Many changes of one object fall into one second: what that leaves open, the worker asks.
    until(synced, "NOT EXISTS (SELECT FROM billhook.refreshes)")
    wanted = {each["id"]: each["name"] for each in everything(account, "/v1/customers?")}
    rows = synced.books.rows(
        "SELECT provider_customer_id AS id, name FROM payments.customers WHERE NOT deleted"
    )
    assert {row["id"]: row["name"] for row in rows} == wanted


def everything(account: Account, path: str) -> list[Any]:
    """A whole list."""
    page = account.get(f"{path}&limit=100")
    found = list(page["data"])
    while page["has_more"]:
        page = account.get(f"{path}&limit=100&starting_after={found[-1]['id']}")
        found += page["data"]
    return found


def test_progress_can_be_watched(synced: Api, account: Account) -> None:
    account.fill(products=3)
    sync(synced)
    progress = synced.admin("GET", "/test/sync").json()
    assert (progress["running"], progress["counts"]["products"]) == (False, 3)


def test_a_hand_made_customer_of_nobody_is_marked_deleted(synced: Api, account: Account) -> None:
    account.fill(customers=1)
    synced.deliver(
        event("customer.created", {**customer("cus_gone"), "created": 1_700_000_000})
        | {"created": 1_700_000_000}
    )
    sync(synced)
    rows = synced.books.rows(
        "SELECT provider_customer_id AS id FROM payments.customers WHERE deleted"
    )
    assert [row["id"] for row in rows] == ["cus_gone"]
