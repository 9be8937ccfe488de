"""A recovery worker whose clock is ours, for the tests of what a webhook alone cannot promise."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import stripe
from pydantic import SecretStr

from api import connect
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.ledger import Ledger
from billhook.mirror.history import History
from billhook.mirror.sync import Sync
from billhook.mirror.verify import verify
from billhook.models import Verification, Verify
from billhook.postgres import Database
from billhook.recovery import Recovery
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from books import Books
from http_tokens import JWT_SECRET

_accounts = itertools.count()

FULFILL = """
    CREATE TABLE fulfillments (event_id text NOT NULL);
    CREATE TABLE broken (reason text);
    CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM broken) THEN
            RAISE EXCEPTION 'the warehouse is closed';
        END IF;
        INSERT INTO fulfillments VALUES (NEW.provider_event_id);
        RETURN NULL;
    END $$;
    CREATE TRIGGER fulfill AFTER INSERT OR UPDATE ON payments.webhook_events
    FOR EACH ROW WHEN (NEW.processing_status = 'processed'
        AND NEW.event_type = 'checkout.session.completed')
    EXECUTE FUNCTION fulfill();
"""


def subscribe_team(v1: Any, customer: str, price: str) -> None:
    """Let a customer pay for the team `t1` by invoice, later."""
    v1.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": price}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "metadata": {"insforge_subject_type": "team", "insforge_subject_id": "t1"},
        }
    )


class Station:
    """A recovery worker whose clock is ours, its database, and its account at Stripe."""

    def __init__(self, database_url: str, sandbox: str) -> None:
        self.key = f"sk_test_recovery{os.getpid()}n{next(_accounts)}_1"
        self.books = Books(database_url)
        self.sandbox = sandbox
        self.stripe = stripe.StripeClient(self.key, base_addresses={"api": sandbox})
        self.settings = Settings(
            database_url=SecretStr(database_url),
            jwt_secret=SecretStr(JWT_SECRET),
            stripe_api_base=sandbox,
            stripe_list_rate=0,
            stripe_test_rate=0,
            retry_attempts=3,
            event_retention_days=31,
            _env_file=None,
        )
        connect(database_url, sandbox, self.key)
        self.books.execute(FULFILL)

    def work(self, what: Callable[[Recovery], Any]) -> Any:
        """Let a worker do one thing."""

        async def within(database: Database) -> Any:
            secrets = SecretStore(database, self.settings)
            gateway = Gateway(secrets.stripe_key, self.sandbox)
            sync = Sync(database, gateway, Connections(database, secrets))
            try:
                ledger = Ledger(database)
                history = History(database, gateway)
                recovery = Recovery(ledger, secrets, gateway, sync, history, self.settings)
                return await what(recovery)
            finally:
                await sync.close()
                await gateway.close()

        return self.books.run(within)

    def pull(self) -> None:
        """Pull, whether or not it is time."""
        self.books.execute("UPDATE billhook.pulls SET next_at = now()")
        self.work(lambda worker: worker.pull("test"))

    def fill_gap(self) -> None:
        """Do what a gap needs."""
        self.work(lambda worker: worker.sync_gap("test"))
        self.work(lambda worker: worker.import_history("test"))

    def retry(self) -> None:
        """Try all failed events again, whether or not it is time."""

        async def each(worker: Recovery) -> None:
            while await worker.retry():
                pass

        self.due("event_retries")
        self.work(each)

    def sync(self) -> None:
        """Sync, and apply what its refreshes found."""

        async def within(database: Database) -> None:
            secrets = SecretStore(database, self.settings)
            gateway = Gateway(secrets.stripe_key, self.sandbox)
            sync = Sync(database, gateway, Connections(database, secrets))
            try:
                assert (await sync.run("test")).connection.last_sync_status == "succeeded"
            finally:
                await sync.close()
                await gateway.close()

        self.books.run(within)

    def refresh(self) -> None:
        self.due("refreshes")
        self.work(lambda worker: worker.refresh("test"))

    def due(self, table: str) -> None:
        self.books.execute(
            f"UPDATE billhook.{table} SET next_at = now() WHERE next_at < 'infinity'"
        )

    def control(self, name: str, **given: Any) -> None:
        httpx.post(f"{self.sandbox}/_sandbox/{name}", json=given, timeout=60).raise_for_status()

    def now(self) -> int:
        """Stripe's time, which other tests have advanced."""
        health = httpx.get(f"{self.sandbox}/_sandbox/health", timeout=60).raise_for_status()
        return int(health.json()["now"])

    def bought(self, number: int = 1) -> list[str]:
        """Checkout sessions that were paid at Stripe without our hearing of it."""
        v1 = self.stripe.v1
        product = v1.products.create({"name": "Tea"})
        price = v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 1500})
        sessions = []
        for _ in range(number):
            made = v1.checkout.sessions.create(
                {
                    "mode": "payment",
                    "success_url": "https://shop.test",
                    "line_items": [{"price": price.id, "quantity": 1}],
                    "payment_intent_data": {"metadata": {"insforge_checkout_mode": "payment"}},
                    "metadata": {"insforge_checkout_mode": "payment"},
                }
            )
            self.control("pay", session=made.id)
            sessions.append(made.id)
        return sessions

    def fulfilled(self) -> int:
        return int(self.books.row("SELECT count(*) AS n FROM fulfillments")["n"])

    def statuses(self) -> list[str]:
        rows = self.books.rows("SELECT processing_status AS s FROM payments.webhook_events")
        return [row["s"] for row in rows]

    @contextmanager
    def warehouse_closed(self) -> Iterator[None]:
        self.books.execute("INSERT INTO broken VALUES ('closed')")
        yield
        self.books.execute("DELETE FROM broken")


def verified(station: Station, **order: Any) -> Verification:
    """Verify as if all that was made were old enough for its event to have come."""

    async def work(database: Database) -> Verification:
        secrets = SecretStore(database, station.settings)
        gateway = Gateway(secrets.stripe_key, station.sandbox)
        try:
            return await verify(Ledger(database), gateway, "test", Verify(**order))
        finally:
            await gateway.close()

    found: Verification = station.books.run(work)
    return found
