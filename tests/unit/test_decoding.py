"""Stripe's JSON, as it is read and as PostgreSQL can store it."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.stripe.decoding import REPLACEMENT, decode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20
)


@given(JSON)
def test_what_is_stored_is_what_was_read(value: object) -> None:
    try:
        body = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return  # not JSON
    found, text = decode(body)
    assert json.loads(text) == found
    assert b"\\u0000" not in text


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a": 1e-20000}', {"a": 0.0}),
        (b'{"a": 1e400, "b": -1e400}', {"a": None, "b": None}),
        (b"[123456789012345678901234567890]", [123456789012345678901234567890.0]),
        (b"[" + b"9" * 5000 + b"]", [None]),
        (b'"a\\u0000b\\ud83d"', f"a{REPLACEMENT}b{REPLACEMENT}"),
        (b'{"a\\u0000": 1}', {f"a{REPLACEMENT}": 1}),
        (b'["\xff"]', [REPLACEMENT]),
    ],
)
def test_what_postgresql_would_refuse_is_read_as_something_that_it_takes(
    body: bytes, found: object
) -> None:
    assert decode(body)[0] == found


@pytest.mark.parametrize("levels", [100, 300, sys.getrecursionlimit() - 200])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_cut_off_and_read(levels: int, start: bytes, end: bytes) -> None:
    found, text = decode(start * levels + b"1" + end * levels)
    assert json.loads(text) == found


@pytest.mark.parametrize("body", [b"", b"[Infinity]", b"[NaN]", b"{", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(body)
