"""What a subscription is worth a month (docs/explanation/business-figures.md).

Amounts are integers in the currency's minor unit. The monthly amount is rounded once, half up,
after the items are added, and once more after discounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil, floor
from typing import Any

from billhook.kinds.reading import StripeObject, hash_of, id_of, integer, text, timestamp
from billhook.kinds.subscriptions import ITEMS

MONTHS = {
    "day": Fraction(12, 365),
    "week": Fraction(12, 52),
    "month": Fraction(1),
    "year": Fraction(12),
}
"""How many months an interval has."""
_MOST = 10**15
"""Larger amounts are cut off, so that no sum of them leaves a bigint."""
_PAID = frozenset({"active", "past_due"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a discount takes off.

    Attributes:
        percent_off: a decimal number, such as `12.5`.
        forever: it applies to every invoice. Only such discounts reduce MRR.
    """

    discount_id: str
    percent_off: str | None
    amount_off: int | None
    currency: str | None
    forever: bool


@dataclass(frozen=True, slots=True)
class Worth:
    """What one state of a subscription says about recurring revenue.

    Attributes:
        period_amount: the amount of its items for each period, before discounts.
        monthly: the same for a month.
        counts: it is active or past due, is going to renew, and its invoices are collected.
        discounts: the ids of its discounts, in Stripe's order.
        counted_from, counted_to: since when, and until when, it has counted according to this
            state alone; None where the state does not say.
    """

    customer_id: str
    currency: str
    period_amount: int
    monthly: int
    counts: bool
    discounts: tuple[str, ...]
    counted_from: int | None
    counted_to: int | None

    @property
    def gross(self) -> int:
        """Its MRR before discounts."""
        return self.monthly if self.counts else 0


def worth_of(subscription: StripeObject) -> Worth | None:
    """Read a subscription. None if it has no customer, no currency or not all of its items."""
    if not ITEMS.complete(subscription):
        return None
    items = ITEMS.entries(subscription)
    customer, currency = id_of(subscription.get("customer")), _currency(subscription, items)
    if customer is None or currency is None:
        return None
    amounts = [(_amount(item), _months(item)) for item in items]
    counted_from, counted_to = _counted(subscription)
    return Worth(
        customer,
        currency,
        rounded(sum((amount for amount, _ in amounts), Fraction())),
        rounded(sum((amount / months for amount, months in amounts if months), Fraction())),
        subscription.get("status") in _PAID
        and not _is_ending(subscription, items)
        and not hash_of(subscription.get("pause_collection")),
        tuple(_ids(_discounts(subscription))),
        counted_from,
        counted_to,
    )


def worth_before(subscription: StripeObject, previous: Mapping[str, Any] | None) -> Worth | None:
    """The state before an event, by the event's `previous_attributes`; None if it does not say."""
    return None if previous is None else worth_of(_overlaid(subscription, previous))


def terms_of(subscription: StripeObject) -> list[Terms]:
    """The terms of its discounts, where the object contains them in full."""
    return [
        terms for each in _discounts(subscription) if (terms := _terms(hash_of(each))) is not None
    ]


def without_terms(subscription: StripeObject) -> StripeObject:
    """The object as events show it, with the ids of its discounts."""
    if not isinstance(subscription.get("discounts"), list):
        return subscription
    return {**subscription, "discounts": list(_ids(subscription["discounts"]))}


def discounted(
    amount: int,
    period_amount: int,
    currency: str,
    discounts: Sequence[str],
    terms: Mapping[str, Terms],
) -> int:
    """An amount after the discounts that apply forever, one after the other.

    Args:
        period_amount: what a discount's `amount_off` reduces. Of an amount for another length of
            time, it takes off the same share.
    """
    left = Fraction(amount)
    for each in discounts:
        of = terms.get(each)
        if of is None or not of.forever:
            continue
        if of.percent_off is not None:
            left *= 1 - Fraction(of.percent_off) / 100
        elif of.amount_off is not None and of.currency == currency and period_amount:
            left -= Fraction(of.amount_off * amount, period_amount)
    return rounded(max(left, Fraction()))


def rounded(amount: Fraction) -> int:
    """To whole minor units: a half is rounded up, away from zero."""
    whole = floor(amount + Fraction(1, 2)) if amount >= 0 else ceil(amount - Fraction(1, 2))
    return max(-_MOST, min(whole, _MOST))


def _currency(subscription: StripeObject, items: Sequence[StripeObject]) -> str | None:
    own = text(subscription.get("currency"))
    return own or next((found for i in items if (found := text(_price(i).get("currency")))), None)


def _price(item: StripeObject) -> StripeObject:
    return hash_of(item.get("price")) or hash_of(item.get("plan"))


def _recurring(price: StripeObject) -> StripeObject:
    """Plans have these fields themselves."""
    return hash_of(price.get("recurring")) or price


def _amount(item: StripeObject) -> Fraction:
    """What an item costs each period. Metered prices cost what is used, and prices in tiers
    don't show their tiers: both are 0."""
    price = _price(item)
    if _recurring(price).get("usage_type") == "metered":
        return Fraction()
    unit = _decimal(price.get("unit_amount_decimal", price.get("amount_decimal")))
    if unit is None:
        unit = Fraction(integer(price.get("unit_amount", price.get("amount"))) or 0)
    quantity = integer(item.get("quantity"))
    return unit * _units(price, 1 if quantity is None else quantity)


def _units(price: StripeObject, quantity: int) -> int:
    """How many units a quantity is: some prices are for packages."""
    transform = hash_of(price.get("transform_quantity") or price.get("transform_usage"))
    size = integer(transform.get("divide_by"))
    if not size or size < 0:
        return quantity
    packages = Fraction(quantity, size)
    return ceil(packages) if transform.get("round") == "up" else floor(packages)


def _months(item: StripeObject) -> Fraction | None:
    recurring = _recurring(_price(item))
    one = MONTHS.get(text(recurring.get("interval")) or "")
    count = integer(recurring.get("interval_count"))
    return one and one * (count if count is not None and count > 0 else 1)


def _decimal(value: object) -> Fraction | None:
    try:
        found = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None
    # `1e999999` is a number, too.
    is_usual = found is not None and found.is_finite() and abs(found.adjusted()) < 20
    return Fraction(found) if found is not None and is_usual else None


def _is_ending(subscription: StripeObject, items: Sequence[StripeObject]) -> bool:
    """Whether its current period is its last one."""
    if subscription.get("cancel_at_period_end") is True:
        return True
    cancel_at = timestamp(subscription.get("cancel_at"))
    ends = [timestamp(each.get("current_period_end")) for each in (*items, subscription)]
    last = max((end for end in ends if end is not None), default=None)
    return cancel_at is not None and last is not None and cancel_at <= last


def _counted(subscription: StripeObject) -> tuple[int | None, int | None]:
    """Since when and until when it counts or has counted, as far as this state shows."""
    created = timestamp(subscription.get("created"))
    trial_end = timestamp(subscription.get("trial_end"))
    since = created if trial_end is None else max(created or trial_end, trial_end)
    status = subscription.get("status")
    stopped = timestamp(subscription.get("canceled_at")) or timestamp(subscription.get("ended_at"))
    is_over = status == "canceled" or (
        status in _PAID and _is_ending(subscription, ITEMS.entries(subscription))
    )
    if hash_of(subscription.get("pause_collection")) or not (is_over or status in _PAID):
        return None, None
    if not is_over:
        return since, None
    if since is None or stopped is None or stopped <= since:
        return None, None
    return since, stopped


def _overlaid(now: StripeObject, before: Mapping[str, Any]) -> StripeObject:
    """Stripe lists only what changed, hashes key by key."""
    found = dict(now)
    for name, was in before.items():
        is_now = found.get(name)
        both = isinstance(was, dict) and isinstance(is_now, dict)
        found[name] = _overlaid(is_now, was) if both else was  # type: ignore[arg-type]
    return found


def _discounts(subscription: StripeObject) -> list[Any]:
    """A list since 2024; before, one object."""
    found = subscription.get("discounts")
    if isinstance(found, list):
        return found
    return [one] if (one := hash_of(subscription.get("discount"))) else []


def _ids(discounts: Iterable[Any]) -> Iterator[str]:
    for each in discounts:
        if (found := id_of(each)) is not None:
            yield found


def _terms(discount: StripeObject) -> Terms | None:
    found = hash_of(discount.get("source")).get("coupon") or discount.get("coupon")
    coupon, discount_id = hash_of(found), id_of(discount)
    if discount_id is None or isinstance(found, str):
        return None
    return Terms(
        discount_id,
        _percent(coupon.get("percent_off")),
        integer(coupon.get("amount_off")),
        text(coupon.get("currency")),
        coupon.get("duration") == "forever",
    )


def _percent(value: object) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
        return None
    return str(Decimal(str(value)))
