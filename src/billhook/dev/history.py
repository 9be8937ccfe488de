"""A year of a small business at the Stripe sandbox: `billhook dev --with-history`.

The sandbox's clock begins a year ago. The actions of customers and of the business are requests to
Stripe's API, each at its own time; the sandbox does the rest: renewals, retries, invoices. Every
run creates the same year.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeAlias

import httpx
import stripe

from billhook.dev.sandbox import client_of, seed

DAY = 86_400
YEAR = 365 * DAY

_SUBSCRIBERS = tuple(
    f"{first} {second}"
    for second in ("Bakery", "Books", "Cycles", "Studio", "Coffee")
    for first in ("Harbor", "Maple", "North", "Bright", "Copper", "Willow", "Silver", "Orchard")
)
_FROM_THE_START = 8
_PAST_DUE = ("Cedar Florists", "Amber Music")
_PURCHASES = 100
_VISA = "pm_card_visa"
_CARDS = (_VISA, _VISA, "pm_card_mastercard", "pm_card_visa_debit", "pm_card_amex")
_DECLINED = "pm_card_chargeDeclinedInsufficientFunds"
_FAILS_LATER = "pm_card_chargeCustomerFail"
_DISPUTED = "pm_card_createDispute"
# Days before the end on which a payment is disputed, and the evidence, which decides at the sandbox
# how it ends. The last one still needs a response.
_DISPUTES = ((211, "winning_evidence"), (97, "losing_evidence"), (6, None))


_Due: TypeAlias = tuple[float, int, Callable[[], Awaitable[object]]]
"""When (seconds since the year began), in which order at the same time, and what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A recurring price.

    Attributes:
        weight: how often customers choose it, relative to the others.
    """

    price: str
    weight: int
    trial_days: int = 0


@dataclass(slots=True)
class _Subscriber:
    name: str
    customer: str = ""
    card: str = ""
    subscription: str = ""

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")


async def live_a_year(sandbox_url: str, key: str) -> None:
    """Simulate the year, up to the present, in a new sandbox whose clock is a year behind."""
    client = client_of(sandbox_url, key)
    prices = await seed(sandbox_url, key)
    of_team = next(p for p in prices if (p.product, p.currency) == ("team", "usd"))
    plans = [Plan(of_team.price_id, 5), *await _more_plans(client)]
    items = [each.price_id for each in prices if each.product != "team"]
    async with httpx.AsyncClient(base_url=sandbox_url, timeout=120) as http:
        business = _Business(http, client, plans, items)
        business.plan_the_year()
        await business.live()


async def _more_plans(client: stripe.StripeClient) -> list[Plan]:
    """The business's products in addition to the demo shop's."""
    solo = await client.v1.products.create_async(
        {"id": "prod_demo_solo", "name": "Solo plan", "description": "For one person."}
    )
    monthly = await client.v1.prices.create_async(
        {
            "product": solo.id,
            "currency": "usd",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
            "lookup_key": "solo_monthly",
        }
    )
    yearly = await client.v1.prices.create_async(
        {
            "product": solo.id,
            "currency": "usd",
            "unit_amount": 9000,
            "recurring": {"interval": "year"},
            "lookup_key": "solo_yearly",
        }
    )
    return [Plan(monthly.id, 4, trial_days=14), Plan(yearly.id, 1)]


class _Business:
    """The remaining actions, in order of time. Actions add the ones that follow from them."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        client: stripe.StripeClient,
        plans: list[Plan],
        items: list[str],
    ) -> None:
        self._http = http
        self._v1 = client.v1
        self._plans = plans
        self._items = items
        self._random = random.Random(2025)  # noqa: S311 - not used for security
        self._now = 0.0  # seconds since the year began
        self._due: list[_Due] = []
        self._number = count()

    def plan_the_year(self) -> None:
        """The arrival of each customer. The rest follows from that."""
        for number, name in enumerate(_SUBSCRIBERS):
            early = number < _FROM_THE_START
            at = self._random.uniform(0, 3 * DAY) if early else self._some_time()
            self._at(at, self._join, _Subscriber(name))
        for name in _PAST_DUE:  # whose first renewal, five days before the end, fails
            self._at(YEAR - 36 * DAY, self._join_and_fail, _Subscriber(name))
        for number in range(_PURCHASES):
            self._at(self._some_time(), self._buy, number)
        for number, (days, evidence) in enumerate(_DISPUTES):
            self._at(YEAR - days * DAY, self._buy_and_dispute, _PURCHASES + number, evidence)

    async def live(self) -> None:
        """Run every action at its time, up to the present."""
        while self._due:
            at, _, act = heapq.heappop(self._due)
            await self._control("advance", seconds=at - self._now)
            self._now = at
            await act()
        await self._control("catch_up")

    async def _join(self, who: _Subscriber) -> None:
        plan = self._random.choices(self._plans, [each.weight for each in self._plans])[0]
        await self._subscribe(who, plan)
        self._plan_events_of(who)

    async def _join_and_fail(self, who: _Subscriber) -> None:
        await self._subscribe(who, self._plans[0])
        self._in_days(10, 20, self._use_card, who, _FAILS_LATER)

    async def _subscribe(self, who: _Subscriber, plan: Plan) -> None:
        who.card = self._random.choice(_CARDS)
        customer = await self._v1.customers.create_async(
            {
                "email": f"billing@{who.slug}.example",
                "name": who.name,
                "payment_method": who.card,
                "invoice_settings": {"default_payment_method": who.card},
            }
        )
        who.customer = customer.id
        order: stripe.params.SubscriptionCreateParams = {
            "customer": who.customer,
            "items": [{"price": plan.price}],
            "metadata": {
                "insforge_checkout_mode": "subscription",
                "insforge_subject_type": "team",
                "insforge_subject_id": who.slug,
            },
        }
        if plan.trial_days:
            order["trial_period_days"] = plan.trial_days
        who.subscription = (await self._v1.subscriptions.create_async(order)).id

    def _plan_events_of(self, who: _Subscriber) -> None:
        fate = self._random.random()
        if fate < 0.12:
            self._in_days(20, 200, self._cancel, who)
        elif fate < 0.26:  # the customer may or may not replace the card in time
            self._in_days(25, 150, self._use_card, who, _FAILS_LATER)
            if fate < 0.20:
                self._in_days(151, 153, self._use_card, who, who.card)
        elif fate < 0.34:
            self._in_days(10, 120, self._refund_last_invoice, who)

    async def _use_card(self, who: _Subscriber, card: str) -> None:
        method = await self._v1.payment_methods.attach_async(card, {"customer": who.customer})
        await self._v1.customers.update_async(
            who.customer, {"invoice_settings": {"default_payment_method": method.id}}
        )

    async def _cancel(self, who: _Subscriber) -> None:
        await self._v1.subscriptions.update_async(
            who.subscription,
            {
                "cancel_at_period_end": True,
                "cancellation_details": {"feedback": "too_expensive"},
            },
        )

    async def _refund_last_invoice(self, who: _Subscriber) -> None:
        paid = await self._v1.payment_intents.list_async({"customer": who.customer, "limit": 1})
        for each in paid.data:
            if each.status == "succeeded":
                await self._v1.refunds.create_async(
                    {"payment_intent": each.id, "reason": "requested_by_customer"}
                )

    async def _buy(self, number: int) -> None:
        """A one-time purchase in Checkout; some cards are declined first, some are refunded."""
        session = await self._checkout()
        if self._random.random() < 0.06:
            await self._pay(session, number, _DECLINED)
        if self._random.random() < 0.04:
            return  # abandoned
        paid = await self._pay(session, number, self._random.choice(_CARDS))
        if self._random.random() < 0.07:
            part = self._random.choice((0.5, 1.0, 1.0))
            amount = max(1, int(paid["amount_total"] * part))
            self._in_days(1, 14, self._refund, paid["payment_intent"], amount)

    async def _refund(self, intent: str, amount: int) -> None:
        await self._v1.refunds.create_async({"payment_intent": intent, "amount": amount})

    async def _buy_and_dispute(self, number: int, evidence: str | None) -> None:
        paid = await self._pay(await self._checkout(), number, _DISPUTED)
        if evidence is not None:
            self._in_days(3, 7, self._answer_dispute, paid["payment_intent"], evidence)

    async def _answer_dispute(self, intent: str, evidence: str) -> None:
        disputes = await self._v1.disputes.list_async({"payment_intent": intent})
        for each in disputes.data:
            await self._v1.disputes.update_async(
                each.id, {"evidence": {"uncategorized_text": evidence}, "submit": True}
            )

    async def _checkout(self) -> str:
        price = self._random.choice(self._items)
        session = await self._v1.checkout.sessions.create_async(
            {
                "mode": "payment",
                "line_items": [{"price": price, "quantity": self._random.choice((1, 1, 1, 2, 3))}],
                "success_url": "https://shop.example/done",
                "cancel_url": "https://shop.example/cart",
                "customer_creation": "always",
            }
        )
        return session.id

    async def _pay(self, session: str, number: int, card: str) -> dict[str, Any]:
        email = f"buyer{number + 1}@example.com"
        return await self._control(
            "pay", session=session, payment_method=card, email=email, name=f"Buyer {number + 1}"
        )

    async def _control(self, name: str, /, **given: object) -> dict[str, Any]:
        answer = await self._http.post(f"/_sandbox/{name}", json=given)
        if answer.status_code != httpx.codes.PAYMENT_REQUIRED:  # declined, as intended
            answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _some_time(self) -> float:
        """Later more often than earlier: the business grows."""
        return float(self._random.random() ** 0.7 * YEAR)

    def _in_days(
        self, least: float, most: float, act: Callable[..., Awaitable[object]], *args: object
    ) -> None:
        self._at(self._now + self._random.uniform(least, most) * DAY, act, *args)

    def _at(self, moment: float, act: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run it then, or now if that time has passed; actions after the year are dropped."""
        if moment < YEAR:
            due: _Due = (max(moment, self._now), next(self._number), partial(act, *args))
            heapq.heappush(self._due, due)
