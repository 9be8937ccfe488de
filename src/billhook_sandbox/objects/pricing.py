"""What a number of units costs: per unit, in packages, or in tiers."""

from decimal import ROUND_HALF_UP, Decimal

from billhook_sandbox.store import DataSet, Json

TIERS = "_price_tiers"
"""A price's tiers, which a response contains only when they are expanded."""


def put_tiers(data: DataSet, price: str, given: list[Json]) -> None:
    data.put({"id": price, "object": TIERS, "tiers": [make_tier(each) for each in given]})


def make_tier(given: Json) -> Json:
    tier: Json = {"up_to": None if given["up_to"] == "inf" else int(given["up_to"])}
    for kind in ("flat", "unit"):
        whole, decimal = given.get(f"{kind}_amount"), given.get(f"{kind}_amount_decimal")
        if decimal is None:
            decimal = None if whole is None else str(whole)
        elif "." not in decimal:
            whole = int(decimal)
        tier |= {f"{kind}_amount": whole, f"{kind}_amount_decimal": decimal}
    return tier


def tiers_of(data: DataSet, price: Json) -> list[Json] | None:
    found = data.get(TIERS, price["id"])
    return found["tiers"] if found else None


def amount_for(data: DataSet, price: Json, units: int) -> int:
    """In the currency's minor unit; half a unit is rounded up."""
    if price["billing_scheme"] == "tiered":
        exact = tiered(tiers_of(data, price) or [], units, price["tiers_mode"])
    else:
        exact = Decimal(price["unit_amount_decimal"] or 0) * billed_packages(price, units)
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def billed_packages(price: Json, units: int) -> int:
    transform: Json | None = price["transform_quantity"]
    if transform is None:
        return units
    packages, rest = divmod(units, int(transform["divide_by"]))
    return packages + int(bool(rest) and transform["round"] == "up")


def tiered(tiers: list[Json], units: int, mode: str) -> Decimal:
    """`volume`: the tier that holds all units is the price of each of them. `graduated`: each tier
    is the price of the units in it."""
    total, below = Decimal(0), 0
    for tier in tiers:
        upto = units if tier["up_to"] is None else min(units, tier["up_to"])
        is_last = upto == units
        if mode == "volume" and not is_last:
            continue
        within = units if mode == "volume" else upto - below
        if within > 0 or mode == "volume":
            total += Decimal(tier["flat_amount_decimal"] or 0)
            total += Decimal(tier["unit_amount_decimal"] or 0) * within
        below = upto
        if is_last:
            break
    return total
