"""Many objects at once, without events: for trying what grows with their number.

One object of each kind is made as usual, in a data set of its own; the others are copies of it
with their own ids, names and times. So they have whatever shape the sandbox gives its objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from billhook_sandbox.cards import CARDS
from billhook_sandbox.flows.charge_attempts import succeed
from billhook_sandbox.objects.catalog import make_price, make_product
from billhook_sandbox.objects.charges import make_balance_transaction
from billhook_sandbox.objects.customers import make_customer
from billhook_sandbox.objects.payment_intents import make_intent
from billhook_sandbox.objects.payment_methods import make_card
from billhook_sandbox.objects.subscriptions import item_list, make_item, make_subscription
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json

YEAR = 365 * 86400
MONTH = 28 * 86400


@dataclass(frozen=True, slots=True)
class SeedCounts:
    """How many of each; a subscription brings its item, a payment its charge and its balance
    transaction, and both use the customers in turn."""

    products: int = 0
    prices: int = 0
    customers: int = 0
    subscriptions: int = 0
    payments: int = 0

    def problem(self) -> str | None:
        counts = [getattr(self, f.name) for f in fields(self)]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            return "amounts are whole numbers, not negative"
        return None if any(counts) else "say how many of what"


class Seeder:
    def __init__(self, data: DataSet, amounts: SeedCounts) -> None:
        self.data = data
        self.amounts = amounts
        self.now = data.clock.now()
        self.products: list[str] = []
        self.plans: list[Json] = []
        self.customers: list[tuple[str, str]] = []
        """Customer and payment method."""
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
        """Oldest first; what others refer to comes before them."""
        wanted = self.amounts
        needs_people = bool(wanted.subscriptions or wanted.payments)
        needs_plan = bool(wanted.subscriptions)
        people = max(wanted.customers, needs_people)
        prices = max(wanted.prices, needs_plan)
        yield from self.make_products(max(wanted.products, bool(prices)))
        yield from self.make_prices(prices)
        yield from self.make_customers(people, with_methods=needs_people)
        yield from self.make_subscriptions(wanted.subscriptions)
        yield from self.make_payments(wanted.payments)

    def created(self, index: int, count: int, span: int = YEAR) -> int:
        """Spread evenly over the time until now."""
        return self.now - span + span * (index + 1) // count

    def make_products(self, count: int) -> Iterator[Json]:
        new = self.data.ids.new
        for i in range(count):
            name, created = new("product"), self.created(i, count)
            self.products.append(name)
            title = f"Product {i + 1}"
            yield {
                **self.product,
                "id": name,
                "name": title,
                "created": created,
                "updated": created,
            }

    def make_prices(self, count: int) -> Iterator[Json]:
        new, products = self.data.ids.new, self.products
        for i in range(count):
            product = products[i % len(products)]
            times = {"created": self.created(i, count)}
            price = {**self.price, "id": new("price"), "product": product, **times}
            self.plans.append(price)
            yield price

    def make_customers(self, count: int, with_methods: bool) -> Iterator[Json]:
        new = self.data.ids.new
        for i in range(count):
            name, method, created = new("customer"), "", self.created(i, count)
            prefix = name[-8:].upper()
            texts = {"email": f"customer{i + 1}@example.com", "name": f"Customer {i + 1}"}
            own = {"id": name, "created": created, "invoice_prefix": prefix, **texts}
            yield {**self.customer, **own}
            if with_methods:
                method = new("payment_method")
                yield {**self.method, "id": method, "customer": name, "created": created}
            self.customers.append((name, method))

    def make_subscriptions(self, count: int) -> Iterator[Json]:
        """All in their first month, so that each has a current period that ends some day."""
        if not count:
            return
        new, now = self.data.ids.new, self.now
        item = make_item(self.scratch, "sub_seed", self.price, 1, now, now)
        template = make_subscription(self.scratch, self.customer, self.method, [item])
        recurring = self.price["recurring"]
        for i in range(count):
            name, start = new("subscription"), self.created(i, count, MONTH)
            customer, method = self.customers[i % len(self.customers)]
            price = self.plans[i % len(self.plans)]
            plan = {**item["plan"], "id": price["id"], "product": price["product"]}
            own = {
                **item,
                "id": new("subscription_item"),
                "created": start,
                "current_period_start": start,
                "current_period_end": period_end(start, recurring, start),
                "plan": plan,
                "price": price,
                "subscription": name,
            }
            yield own
            yield {
                **template,
                "id": name,
                "billing_cycle_anchor": start,
                "created": start,
                "customer": customer,
                "default_payment_method": method,
                "items": item_list(name, [own]),
                "plan": plan,
                "start_date": start,
            }

    def make_payments(self, count: int) -> Iterator[Json]:
        if not count:
            return
        new = self.data.ids.new
        owner = self.customer["id"]
        unpaid = make_intent(self.scratch, 1500, "usd", owner, self.method)
        intent, charge = succeed(self.scratch, unpaid, self.method)
        settled = make_balance_transaction(self.scratch, charge, charge["amount"], "charge")
        for i in range(count):
            customer, method = self.customers[i % len(self.customers)]
            names = new("payment_intent"), new("charge"), new("balance_transaction")
            own = {
                "created": self.created(i, count),
                "customer": customer,
                "payment_method": method,
            }
            secret = self.data.ids.secret(names[0])
            ids = {"id": names[0], "client_secret": secret, "latest_charge": names[1]}
            yield {**intent, **own, **ids}
            links = {"id": names[1], "payment_intent": names[0], "balance_transaction": names[2]}
            yield {**charge, **own, **links}
            times = {"created": own["created"], "available_on": own["created"]}
            yield {**settled, **times, "id": names[2], "source": names[1]}
