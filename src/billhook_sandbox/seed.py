"""Creates many objects at once, without events, for tests with large amounts of data.

One object of each kind is created as usual, in a temporary data set. The others are copies of it
with their own ids, names and times, so they have the same fields as all objects of the sandbox.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from billhook_sandbox.cards import CARDS
from billhook_sandbox.flows.charge_attempts import succeed
from billhook_sandbox.objects.catalog import make_price, make_product
from billhook_sandbox.objects.charge import make_balance_transaction
from billhook_sandbox.objects.customer import make_customer
from billhook_sandbox.objects.payment_intent import make_intent
from billhook_sandbox.objects.payment_method import make_card
from billhook_sandbox.objects.subscription import item_list, make_item, make_subscription
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json

YEAR = 365 * 86400
MONTH = 28 * 86400


@dataclass(frozen=True, slots=True)
class SeedCounts:
    """How many objects of each kind. A subscription includes its item, a payment its charge and
    balance transaction. Both are spread over the customers."""

    products: int = 0
    prices: int = 0
    customers: int = 0
    subscriptions: int = 0
    payments: int = 0

    def problem(self) -> str | None:
        counts = [getattr(self, f.name) for f in fields(self)]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            return "Counts must be whole numbers, zero or more."
        return None if any(counts) else "Give at least one count, such as customers=100."


class Seeder:
    def __init__(self, data: DataSet, counts: SeedCounts) -> None:
        self.data = data
        self.counts = counts
        self.now = data.clock.now()
        self.products: list[str] = []
        self.plans: list[Json] = []
        self.customers: list[tuple[str, str]] = []
        """The ids of the customer and the payment method."""
        scratch = DataSet(data.account, data.livemode, data.clock, data.ids)
        self.scratch = scratch
        self.product = make_product(scratch, {"name": "Seed"})
        monthly = {"interval": "month", "interval_count": 1}
        given = {"currency": "usd", "product": self.product["id"], "unit_amount": 1500}
        self.price = make_price(scratch, {**given, "recurring": monthly})
        self.customer = make_customer(scratch, {"email": "seed@example.com", "name": "Seed"})
        method = make_card(scratch, CARDS[0], (12, 2034), None)
        self.method = scratch.put({**method, "customer": self.customer["id"]})

    def objects(self) -> Iterator[Json]:
        """Oldest first; an object comes after the objects it refers to."""
        counts = self.counts
        needs_customers = bool(counts.subscriptions or counts.payments)
        needs_plan = bool(counts.subscriptions)
        customers = max(counts.customers, needs_customers)
        prices = max(counts.prices, needs_plan)
        yield from self.make_products(max(counts.products, bool(prices)))
        yield from self.make_prices(prices)
        yield from self.make_customers(customers, with_methods=needs_customers)
        yield from self.make_subscriptions(counts.subscriptions)
        yield from self.make_payments(counts.payments)

    def created_at(self, index: int, count: int, span: int = YEAR) -> int:
        """Creation times, spread evenly over the time until now."""
        return self.now - span + span * (index + 1) // count

    def make_products(self, count: int) -> Iterator[Json]:
        new = self.data.ids.new
        for i in range(count):
            product_id, created = new("product"), self.created_at(i, count)
            self.products.append(product_id)
            values = {"id": product_id, "name": f"Product {i + 1}"}
            yield {**self.product, **values, "created": created, "updated": created}

    def make_prices(self, count: int) -> Iterator[Json]:
        new, products = self.data.ids.new, self.products
        for i in range(count):
            values = {"id": new("price"), "product": products[i % len(products)]}
            price = {**self.price, **values, "created": self.created_at(i, count)}
            self.plans.append(price)
            yield price

    def make_customers(self, count: int, with_methods: bool) -> Iterator[Json]:
        new = self.data.ids.new
        for i in range(count):
            customer_id, method_id, created = new("customer"), "", self.created_at(i, count)
            values = {
                "id": customer_id,
                "created": created,
                "email": f"customer{i + 1}@example.com",
                "invoice_prefix": customer_id[-8:].upper(),
                "name": f"Customer {i + 1}",
            }
            yield {**self.customer, **values}
            if with_methods:
                method_id = new("payment_method")
                values = {"id": method_id, "created": created, "customer": customer_id}
                yield {**self.method, **values}
            self.customers.append((customer_id, method_id))

    def make_subscriptions(self, count: int) -> Iterator[Json]:
        """All are in their first month, so that each has a current period."""
        if not count:
            return
        new, now = self.data.ids.new, self.now
        item = make_item(self.scratch, "sub_seed", self.price, 1, now, now)
        template = make_subscription(self.scratch, self.customer, self.method, [item])
        recurring = self.price["recurring"]
        for i in range(count):
            subscription_id, start = new("subscription"), self.created_at(i, count, MONTH)
            customer, method = self.customers[i % len(self.customers)]
            price = self.plans[i % len(self.plans)]
            plan = {**item["plan"], "id": price["id"], "product": price["product"]}
            own_item = {
                **item,
                "id": new("subscription_item"),
                "created": start,
                "current_period_start": start,
                "current_period_end": period_end(start, recurring, start),
                "plan": plan,
                "price": price,
                "subscription": subscription_id,
            }
            yield own_item
            yield {
                **template,
                "id": subscription_id,
                "billing_cycle_anchor": start,
                "created": start,
                "customer": customer,
                "default_payment_method": method,
                "items": item_list(subscription_id, [own_item]),
                "plan": plan,
                "start_date": start,
            }

    def make_payments(self, count: int) -> Iterator[Json]:
        if not count:
            return
        new = self.data.ids.new
        customer = self.customer["id"]
        unpaid = make_intent(self.scratch, 1500, "usd", customer, self.method)
        intent, charge = succeed(self.scratch, unpaid, self.method)
        transaction = make_balance_transaction(self.scratch, charge, charge["amount"], "charge")
        for i in range(count):
            customer, method = self.customers[i % len(self.customers)]
            created = self.created_at(i, count)
            values = {"created": created, "customer": customer, "payment_method": method}
            intent_id, charge_id = new("payment_intent"), new("charge")
            transaction_id = new("balance_transaction")
            secret = self.data.ids.secret(intent_id)
            ids = {"id": intent_id, "client_secret": secret, "latest_charge": charge_id}
            yield {**intent, **values, **ids}
            ids = {
                "id": charge_id,
                "payment_intent": intent_id,
                "balance_transaction": transaction_id,
            }
            yield {**charge, **values, **ids}
            times = {"created": created, "available_on": created}
            yield {**transaction, **times, "id": transaction_id, "source": charge_id}
