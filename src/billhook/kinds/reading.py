"""Reading Stripe's objects tolerantly.

Unknown keys are normal, missing ones and nulls are expected, ids may come expanded as objects,
and some fields moved between API versions. Nothing here raises, except `required`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

StripeObject = Mapping[str, Any]

_BIGINT_MAX = 2**63 - 1
_INT_MAX = 2**31 - 1
_LONGEST_ID = 1800
"""Bytes of an id: an entry of an index holds 2,700, in some with 200 characters of a name."""
_SURELY_SHORT = _LONGEST_ID // 4
"""Characters; each has four bytes at most."""
_YEAR_1 = -62_135_596_800
_YEAR_10000 = 253_402_300_800


class UnreadableObject(Exception):
    """A Stripe object lacks a required field; `str(error)` names it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is billed, in the app's own terms."""

    type: str
    id: str


def hash_of(value: Any) -> StripeObject:
    """`value` if it is a hash, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """`value` if it is a non-empty string."""
    return value if isinstance(value, str) and value else None


def integer(value: Any) -> int | None:
    """`value` if it is an integer that a bigint can hold (amounts: the minor unit); also where it
    is written as `1500.0`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _BIGINT_MAX:
        return value
    return None


def small_integer(value: Any) -> int | None:
    """`value` if it is an integer that an int column can hold."""
    found = integer(value)
    return found if found is not None and abs(found) <= _INT_MAX else None


def timestamp(value: Any) -> int | None:
    """`value` if it is a time in epoch seconds, of the years 1 to 9999, which both PostgreSQL and
    Python know; Stripe never means 1970 by 0."""
    found = integer(value)
    return found if found and _YEAR_1 <= found < _YEAR_10000 else None


def id_of(value: Any) -> str | None:
    """The id of a reference, which comes as a string or as the expanded object. An id too long to
    be indexed counts as missing. Stripe's own have about 30 characters, but merchants choose the
    ids of products."""
    found = text(value.get("id") if isinstance(value, dict) else value)
    if found is None or len(found) <= _SURELY_SHORT:
        return found
    return found if len(found.encode(errors="replace")) <= _LONGEST_ID else None


def entries(value: Any) -> list[dict[str, Any]]:
    """The hashes in a list object's `data`, or in a plain list."""
    data = value if isinstance(value, list) else hash_of(value).get("data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def objects(page: Any) -> list[dict[str, Any]]:
    """The objects in a page of a list: those of its entries that have an id."""
    return [entry for entry in entries(page) if text(entry.get("id"))]


def metadata(value: Any) -> dict[str, str]:
    """An object's metadata: strings to strings."""
    return {key: entry for key, entry in hash_of(value).items() if isinstance(entry, str)}


def subject_of(value: Any) -> Subject | None:
    """The subject in metadata (contract §5), or None unless both parts are present."""
    subject_type = text(hash_of(value).get("insforge_subject_type"))
    subject_id = text(hash_of(value).get("insforge_subject_id"))
    return Subject(subject_type, subject_id) if subject_type and subject_id else None


def required(stripe_object: StripeObject, field: str) -> str:
    """A required field.

    Raises:
        UnreadableObject: it is missing, null or no string.
    """
    value = stripe_object.get(field)
    if not isinstance(value, str):
        kind = stripe_object.get("object", "object")
        raise UnreadableObject(f"The {kind} has no {field}.")
    return value


def compact(**ids: str | None) -> dict[str, str]:
    """The ids that are known."""
    return {kind: value for kind, value in ids.items() if value}


def listed(ids: Mapping[str, str]) -> dict[str, list[str]]:
    """Ids by object type, as `PaymentChange.refs` has them."""
    return {kind: [value] for kind, value in ids.items()}


def presentment_of(stripe_object: StripeObject) -> tuple[int | None, str | None]:
    """The amount and currency that the buyer saw (adaptive pricing)."""
    details = hash_of(stripe_object.get("presentment_details"))
    amount = integer(details.get("presentment_amount"))
    currency = text(details.get("presentment_currency"))
    return (amount, currency) if currency and amount is not None else (None, None)
