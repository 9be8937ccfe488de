"""What an operator finds, and how: by ids, e-mails, names, subjects and types."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import insforge
from api import Api
from billhook.errors import PaymentNotFound
from billhook.models import (
    CustomersQuery,
    EventsQuery,
    Payment,
    ProductsQuery,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.postgres.migrate import migrate
from billhook.reports import lists, paging
from books import Books
from stripe_events import (
    T0,
    charge,
    customer,
    event,
    invoice,
    invoice_payment,
    payment_intent,
    refund,
    session,
    subject,
    subscription,
)


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


@pytest.fixture(scope="module")
def shop(shared_database_url: str) -> Books:
    """What a small shop sold, to be read only."""
    found = Books(shared_database_url)
    apply(found, *SHOP)
    return found


def apply(books: Books, *events: dict[str, Any]) -> None:
    for each in books.apply(*events):
        assert not isinstance(each, Exception), each


def transactions(books: Books, search: str, **more: Any) -> list[str | None]:
    query = TransactionsQuery(search=search, **more)
    page = books.run(lambda database: lists.transactions(database, "test", query))
    return [each.provider_reference_id for each in page.rows]


def payments(books: Books, **query: Any) -> list[Payment]:
    asked = TransactionsQuery(**query)
    return books.run(lambda database: lists.payments(database, "test", asked)).rows


def customers(books: Books, search: str, **more: Any) -> list[str]:
    query = CustomersQuery(search=search, **more)
    page = books.run(lambda database: lists.customers(database, "test", query))
    return [each.provider_customer_id for each in page.rows]


def subscriptions(books: Books, **query: Any) -> list[str]:
    asked = SubscriptionsQuery(**query)
    page = books.run(lambda database: lists.subscriptions(database, "test", asked))
    return [each.subscription_id for each in page.rows]


def events(books: Books, search: str, **more: Any) -> list[str]:
    query = EventsQuery(search=search, **more)
    page = books.run(lambda database: lists.events(database, "test", query))
    return [each.event_id for each in page.rows]


def products(books: Books, **query: Any) -> dict[str, list[str]]:
    asked = ProductsQuery(**query)
    page = books.run(lambda database: lists.products(database, "test", asked))
    return {
        each.product.product_id: [price.price_id for price in each.prices] for each in page.rows
    }


SHOP = (
    event("customer.created", customer("cus_1", email="Ada@Shop.test", name="Ada Lovelace")),
    event("customer.created", customer("cus_2", email="bob@shop.test", name="adam")),
    # A checkout: a session, a PaymentIntent, a charge, then two refunds, one through a bank.
    event("checkout.session.completed", session(metadata=subject("team", "a:b"))),
    event("payment_intent.succeeded", payment_intent()),
    event("refund.created", refund(amount=400), at=10),
    event("refund.created", refund("pyr_2", amount=300, created=T0 + 200), at=20),
    # A renewal, and somebody who paid as a guest.
    event("invoice.paid", invoice(customer="cus_2"), at=30),
    event("invoice_payment.paid", invoice_payment(), at=31),
    event(
        "payment_intent.succeeded",
        payment_intent(
            "pi_3", customer=None, receipt_email="Guest@Shop.test", latest_charge="py_3"
        ),
        at=40,
    ),
)


class TestTransactions:
    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("pi_1", {"pi_1", "re_1", "pyr_2"}),
            ("ch_1", {"pi_1", "re_1", "pyr_2"}),
            ("cs_1", {"pi_1", "re_1", "pyr_2"}),
            ("re_1", {"re_1"}),
            ("pyr_2", {"pyr_2"}),
            ("in_1", {"pi_9"}),
            ("pi_9", {"pi_9"}),
            ("sub_1", {"pi_9"}),
            ("py_3", {"pi_3"}),
            ("cus_1", {"pi_1", "re_1", "pyr_2"}),
            ("  cus_2 ", {"pi_9"}),
            ("team:a:b", {"pi_1", "re_1", "pyr_2"}),
            ("ADA@shop.test", {"pi_1", "re_1", "pyr_2"}),
            ("guest@shop.TEST", {"pi_3"}),
            ("ada@shop", set()),
            ("team:a", set()),
            ("pi_", set()),
            ("pi_1 ", {"pi_1", "re_1", "pyr_2"}),
            ("price_1", set()),
            ("rubbish", set()),
            ("%", set()),
            ("'; --", set()),
            (":", set()),
        ],
    )
    def test_are_found_by_all_that_names_them(
        self, shop: Books, search: str, found: set[str]
    ) -> None:
        assert set(transactions(shop, search)) == found

    def test_a_search_and_filters_combine(self, shop: Books) -> None:
        assert transactions(shop, "cus_1", type="refund") == ["pyr_2", "re_1"]
        assert transactions(shop, "cus_1", type="refund", order="oldest") == ["re_1", "pyr_2"]
        assert transactions(shop, "cus_1", order="largest") == ["pi_1", "re_1", "pyr_2"]
        assert transactions(shop, "cus_1", customer="cus_2") == []
        assert transactions(shop, "cus_1", status="partially_refunded") == ["pi_1"]
        until = "2026-05-28T20:29:00Z"  # T0 + 140
        assert transactions(shop, "cus_1", until=until) == ["re_1", "pi_1"]
        assert transactions(shop, "cus_1", until=until, order="largest") == ["pi_1", "re_1"]

    def test_an_earlier_charge_of_a_payment_finds_it(self, books: Books) -> None:
        apply(
            books,
            event("payment_intent.payment_failed", payment_intent(latest_charge="ch_0")),
            event("payment_intent.succeeded", payment_intent(latest_charge="ch_1"), at=5),
        )
        assert transactions(books, "ch_0") == transactions(books, "ch_1") == ["pi_1"]

    def test_the_largest_of_a_time_are_those_of_that_time(self, shop: Books) -> None:
        query = {"since": "2026-05-28T20:26:41Z", "until": "2026-05-28T20:28:21Z"}
        found = payments(shop, order="largest", **query)
        assert [each.amount for each in found] == [2900, 1500, 1500]
        assert payments(shop, order="largest", since="2026-05-28T20:28:21Z") == []

    def test_many_of_a_time_are_walked_by_amount(
        self, shop: Books, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(lists.transactions.__globals__, "_FEW", 1)
        found = payments(shop, order="largest", since="2026-05-28T20:26:41Z", limit=2)
        assert [each.amount for each in found] == [2900, 1500]


class TestPayments:
    def test_refunds_stand_within_their_payment(self, shop: Books) -> None:
        found = {each.provider_reference_id: each for each in payments(shop)}
        assert set(found) == {"pi_1", "pi_9", "pi_3"}
        assert [each.provider_reference_id for each in found["pi_1"].refunds] == ["re_1", "pyr_2"]
        assert found["pi_9"].refunds == []
        assert found["pi_1"].related_object_ids == {
            "payment_intent": "pi_1",
            "charge": "ch_1",
            "checkout_session": "cs_1",
        }

    def test_and_on_their_own_where_they_are_asked_for(self, shop: Books) -> None:
        def shown(**query: Any) -> list[str | None]:
            return [each.provider_reference_id for each in payments(shop, **query)]

        assert shown(type="refund") == ["pyr_2", "re_1"]
        assert shown(search="re_1") == ["re_1"]
        assert shown(search="pi_1") == shown(search="cus_1") == ["pi_1"]
        assert shown(status="refunded") == []

    @pytest.mark.parametrize("reference", ["pi_1", "ch_1", "cs_1", "re_1", "pyr_2"])
    def test_one_is_found_by_any_of_its_ids(self, shop: Books, reference: str) -> None:
        found = shop.run(lambda database: lists.payment(database, "test", reference))
        assert (found.provider_reference_id, len(found.refunds)) == ("pi_1", 2)

    @pytest.mark.parametrize("reference", ["pi_none", "re_none", "cus_1", "sub_1", "", "x", "ch_"])
    def test_what_is_no_payment_is_told_with_a_next_step(self, shop: Books, reference: str) -> None:
        with pytest.raises(PaymentNotFound) as error:
            shop.run(lambda database: lists.payment(database, "test", reference))
        assert error.value.next_actions
        with pytest.raises(PaymentNotFound):
            shop.run(lambda database: lists.payment(database, "live", "pi_1"))

    def test_a_refund_whose_payment_never_came_stands_for_it(self, books: Books) -> None:
        apply(books, event("refund.created", refund("re_8", payment_intent="pi_8", charge="ch_8")))
        for reference in ("re_8", "pi_8", "ch_8"):
            found = books.run(lambda database, ref=reference: lists.payment(database, "test", ref))
            assert (found.provider_reference_id, found.refunds) == ("re_8", [])


def test_rows_that_insforge_wrote_are_found(empty_database_url: str) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    books.execute(
        f"""
        INSERT INTO payments.transactions
            (provider, environment, type, status, provider_object_type, provider_object_id,
             provider_parent_object_type, provider_parent_object_id, provider_customer_id,
             subject_type, subject_id, amount, currency, provider_created_at, related_object_ids)
            VALUES ('stripe', 'test', 'subscription_invoice', 'succeeded', 'invoice', 'in_1', NULL,
                NULL, 'cus_1', 'team', 't1', 2900, 'usd', to_timestamp({T0}),
                '{{"invoice": "in_1", "charge": "ch_1", "subscription": "sub_1", "odd": null}}'),
            ('stripe', 'test', 'refund', 'refunded', 'refund', 're_1', 'charge', 'ch_1', 'cus_1',
                NULL, NULL, 500, 'usd', to_timestamp({T0 + 100}), '{{"refund": "re_1"}}'),
            ('stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_2', NULL,
                NULL, NULL, NULL, NULL, 100, 'usd', NULL, '{{}}');
        """
    )
    asyncio.run(migrate(empty_database_url))
    for search in ("in_1", "ch_1"):
        assert transactions(books, search, type="subscription_invoice") == ["in_1"]
    assert transactions(books, "sub_1") == transactions(books, "team:t1") == ["in_1"]
    assert set(transactions(books, "cus_1")) == {"in_1", "re_1"}
    assert transactions(books, "re_1") == ["re_1"]
    assert transactions(books, "pi_2") == ["pi_2"]
    paid = books.run(lambda database: lists.payment(database, "test", "re_1"))
    assert [each.provider_reference_id for each in (paid, *paid.refunds)] == ["in_1", "re_1"]
    assert "odd" not in paid.related_object_ids
    assert [each.provider_reference_id for each in payments(books)] == ["pi_2", "in_1"]


class TestCustomers:
    PEOPLE = (
        event("customer.created", customer("cus_1", email="Ada@Shop.test", name="Zoe")),
        event("customer.created", customer("cus_2", email="bob@shop.test", name="ADAM")),
        event("customer.created", customer("cus_3", email=None, name="Ädel")),
        event("customer.created", customer("cus_4", email="adz@shop.test", name="Adz")),
        event("customer.created", customer("my own id", email=None, name=None)),
    )

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("ad", ["cus_1", "cus_4", "cus_2"]),
            ("ADA@", ["cus_1"]),
            ("adam", ["cus_2"]),
            ("äD", ["cus_3"]),
            ("cus_3", ["cus_3"]),
            ("my own id", ["my own id"]),
            ("shop.test", []),
            ("cus_", []),
            ("%", []),
            ("_", []),
            ("\\", []),
            ("\U0010ffff", []),
        ],
    )
    def test_are_found_by_what_e_mail_or_name_begin_with(
        self, books: Books, search: str, found: list[str]
    ) -> None:
        apply(books, *self.PEOPLE)
        assert customers(books, search) == found
        assert set(customers(books, search, order="newest")) == set(found)

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    def test_many_that_fit_are_walked_by_time(
        self, books: Books, monkeypatch: pytest.MonkeyPatch, order: str
    ) -> None:
        apply(
            books,
            *(
                event(
                    "customer.created",
                    customer(f"cus_{n}", email=f"U{n}@b.test", name=f"u{n}", created=T0 + n),
                )
                for n in range(5)
            ),
            event("customer.created", customer("cus_x", email="x@b.test", name="x", created=T0)),
        )
        few = customers(books, "u", order=order)
        monkeypatch.setitem(lists.customers.__globals__, "_FEW", 2)
        assert customers(books, "u", order=order) == few
        assert (
            few
            == sorted(few, reverse=order == "newest")
            == sorted((f"cus_{n}" for n in range(5)), reverse=order == "newest")
        )

    def test_one_comes_with_its_subjects(self, books: Books) -> None:
        apply(books, *SHOP)
        found = books.run(lambda database: lists.customer(database, "test", "cus_1"))
        assert (found.email, found.payments_count) == ("Ada@Shop.test", 1)
        assert books.run(lambda database: lists.subjects_of(database, "test", "cus_1")) == [
            ("team", "a:b")
        ]
        assert books.run(lambda database: lists.subjects_of(database, "test", "cus_2")) == []
        with pytest.raises(PaymentNotFound) as error:
            books.run(lambda database: lists.customer(database, "live", "cus_1"))
        assert error.value.next_actions


def test_subscriptions_are_found_and_sorted_by_renewal(books: Books) -> None:
    def until(name: str, end: int | None, **more: Any) -> dict[str, Any]:
        made = subscription(name, **more)
        made["items"]["data"][0]["current_period_end"] = end and T0 + end
        return event("customer.subscription.created", made)

    apply(
        books,
        event("customer.created", customer("cus_1", email="Ada@Shop.test")),
        until("sub_1", 900, customer="cus_1", metadata=subject("team", "t1")),
        until("sub_2", None, customer="cus_2"),
        until("sub_3", 100, customer="cus_2", status="canceled"),
        until("sub_4", 500, customer="cus_2"),
    )
    assert subscriptions(books, order="renewal") == ["sub_3", "sub_4", "sub_1", "sub_2"]
    assert subscriptions(books, order="renewal", status="active") == ["sub_4", "sub_1", "sub_2"]
    for search in ("sub_1", "cus_1", "ada@shop.test", "team:t1"):
        assert subscriptions(books, search=search) == ["sub_1"]
        assert subscriptions(books, search=search, status="canceled") == []
    assert subscriptions(books, search="cus_2", order="renewal") == ["sub_3", "sub_4", "sub_2"]
    assert subscriptions(books, search="sub") == subscriptions(books, search="cus_9") == []


def test_events_are_found_by_id_object_and_type(books: Books) -> None:
    told = [
        event("customer.created", customer("cus_1")),
        event("customer.subscription.created", subscription("sub_1")),
        event("customer.subscription.deleted", subscription("sub_1"), at=5),
        event("charge.updated", charge("ch_1")),
        event("odd.thing", {"id": "odd_1", "object": "odd"}),
        event("odder.thing", {"id": "odder_1"}),  # of no type
        event("odd.v2.thing", {"id": "tea.green", "object": "product"}),
    ]
    apply(books, *told)
    one, made, gone, charged, odd, odder, dotted = (each["id"] for each in told)
    assert events(books, one) == events(books, "cus_1") == events(books, "customer.created")
    assert set(events(books, "sub_1")) == {made, gone}
    assert set(events(books, "customer.subscription.*")) == {made, gone}
    assert set(events(books, "customer.*")) == {one, made, gone}
    assert set(events(books, "customer.subscription.*", type="customer.subscription.deleted")) == {
        gone
    }
    assert events(books, "ch_1") == events(books, "charge.*", status="ignored") == [charged]
    assert events(books, "charge.*", status="processed") == []
    assert (events(books, "odd_1"), events(books, "odder_1")) == ([odd], [odder])
    assert events(books, "tea.green") == [dotted]  # an id that could be a type
    assert set(events(books, "*")) == {each["id"] for each in told}
    for nothing in ("customer", "cus_", "cus*er.created", "evt_none", "x.y", "Customer.created"):
        assert events(books, nothing) == []
    assert books.run(lambda database: lists.event_types(database, "test")) == sorted(
        each["type"] for each in told
    )
    assert books.run(lambda database: lists.event_types(database, "live")) == []


def test_products_are_found_by_name_id_price_and_lookup_key(books: Books) -> None:
    books.execute("""
        INSERT INTO payments.stripe_products (environment, product_id, name, active) VALUES
            ('test', 'prod_1', 'tea', true), ('test', 'prod_2', 'Teapot', false),
            ('test', 'prod_3', 'Cup', true), ('live', 'prod_1', 'tea', true);
        INSERT INTO payments.stripe_prices (
            environment, price_id, product_id, active, currency, type, lookup_key) VALUES
            ('test', 'price_1', 'prod_1', true, 'eur', 'recurring', 'monthly'),
            ('test', 'price_2', 'prod_1', false, 'usd', 'recurring', NULL),
            ('test', 'price_3', 'prod_3', true, 'eur', 'one_time', 'cup'),
            ('live', 'price_4', 'prod_1', true, 'eur', 'one_time', NULL);
    """)
    tea, cup = {"prod_1": ["price_1", "price_2"]}, {"prod_3": ["price_3"]}
    assert list(products(books)) == ["prod_3", "prod_1", "prod_2"]
    assert products(books, active=True) == cup | tea
    assert products(books, active=False) == {"prod_2": []}
    assert products(books, search="TEA") == tea | {"prod_2": []}
    for search in ("prod_1", "price_2", "monthly"):
        assert products(books, search=search) == tea
        assert products(books, search=search, active=False) == {}
    assert products(books, search="cup") == cup  # by name and by key: once
    assert products(books, search="price_4") == products(books, search="ea") == {}


class TestOverHttp:
    def test_links_lead_in_both_directions(self, api: Api) -> None:
        def paid(n: int) -> dict[str, Any]:
            return payment_intent(f"pi_{n}", latest_charge=f"ch_{n}", created=T0 + n)

        apply(
            api.books,
            *(event("payment_intent.succeeded", paid(n), at=n) for n in range(5)),
        )

        def page(path: str) -> tuple[list[str], dict[str, str]]:
            answer = api.admin("GET", path.removeprefix("/api/payments/stripe"))
            assert answer.status_code == 200, answer.text
            shown = [each["providerReferenceId"] for each in answer.json()["transactions"]]
            return shown, {name: link["url"] for name, link in answer.links.items()}

        first, links = page("/test/transactions?limit=2&order=oldest&customer=cus_1")
        assert (first, list(links)) == (["pi_0", "pi_1"], ["next"])
        second, links = page(links["next"])
        assert (second, list(links)) == (["pi_2", "pi_3"], ["next", "prev"])
        third, beyond = page(links["next"])
        assert (third, list(beyond)) == (["pi_4"], ["prev"])
        again, links = page(links["prev"])
        assert (again, list(links)) == (first, ["next"])
        assert page(links["next"])[0] == second

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("/transactions?startingAfter=a&endingBefore=b", "endingBefore: startingAfter and"),
            ("/transactions?endingBefore=nonsense", "endingBefore: is not a cursor of this list"),
            ("/transactions?order=name", "order: "),
            ("/transactions?search=%20", "search: "),
            (f"/customers?search={'x' * 201}", "search: "),
            ("/customers?search=a%00", "search: must not contain NUL"),
            ("/customers?order=largest", "order: "),
            ("/subscriptions?order=newest", "order: "),
            ("/webhook-events?order=largest", "order: "),
            ("/catalog/products?search=tea", "search: is not a known field"),
            (f"/customers?search=a&startingAfter={paging.encode(['3', 'a', 'b'])}", "startingAf"),
            (f"/customers?search=a&startingAfter={paging.encode(['-1', 'a', 'b'])}", "startingAf"),
            (f"/customers?startingAfter={paging.encode(['1', 'a', 'b'])}", "startingAfter: "),
            *(
                (f"/transactions?startingAfter={paging.encode([at, 'a' * 32])}", "startingAfter: ")
                for at in ("2026-05-28", "0001-01-01T00:00:00+23:59", "infinity", "9" * 30, 5)
            ),
            (
                f"/transactions?order=largest&startingAfter="
                f"{paging.encode(['9' * 19, '2026-05-28T00:00:00+00:00', 'a' * 32])}",
                "startingAfter: ",
            ),
        ],
    )
    def test_a_bad_query_is_named(self, shared_api: Api, path: str, problem: str) -> None:
        answer = shared_api.admin("GET", f"/test{path}")
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
        assert problem in answer.json()["message"]
