"""`Client` and `AsyncClient`: what they send, what they make of answers, when they try again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

import billhook
from billhook import ApiError, AsyncClient, Client
from billhook.client import UnexpectedAnswer, Unreachable, generate
from billhook.client.request import Call, may_repeat, pause
from billhook.models import Status

KEY = "ik_" + "k" * 40
EMPTY: dict[str, Any] = {
    "accountId": None,
    "accountEmail": None,
    "accountLivemode": None,
    "webhookEndpointId": None,
    "webhookEndpointUrl": None,
    "webhookConfiguredAt": None,
    "maskedKey": None,
    "lastSyncedAt": None,
    "lastSyncStatus": None,
    "lastSyncError": None,
    "lastSyncCounts": {},
}
STATUS = {"connections": [{"environment": "test", "status": "unconfigured", **EMPTY}]}
PRODUCT = {
    "environment": "test",
    "productId": "prod_1",
    "name": "Tea",
    "description": None,
    "active": True,
    "defaultPriceId": None,
    "metadata": {},
    "syncedAt": "2026-05-12T22:41:07.123Z",
}


class Server:
    """Answers one after the other, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def bodies(self) -> list[Any]:
        return [orjson.loads(each.content) for each in self.asked]


def ok(body: object, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=body, headers=headers)


def refusal(status: int, code: str, **more: str) -> httpx.Response:
    body = {"error": code, "message": "No.", "statusCode": status, **more}
    return httpx.Response(status, json=body)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, pauses: list[float]) -> Callable[..., Any]:
    """Makes a call on either client: both must do the same."""

    def call(server: Server, work: Callable[[Any], Any], **options: Any) -> Any:
        transport = httpx.MockTransport(server)
        if request.param == "sync":
            with Client("https://pay.test/base/", KEY, transport=transport, **options) as made:
                found = work(made)
                return list(found) if hasattr(found, "__next__") else found

        async def run() -> Any:
            address = "https://pay.test/base/"
            async with AsyncClient(address, KEY, transport=transport, **options) as made:
                found = work(made)
                if hasattr(found, "__anext__"):
                    return [each async for each in found]
                return await found

        return asyncio.run(run())

    return call


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []

    async def pass_by(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(asyncio, "sleep", pass_by)
    return made


def test_the_key_goes_along_and_the_answer_is_a_model(client: Callable[..., Any]) -> None:
    server = Server(ok(STATUS))
    status = client(server, lambda c: c.status())
    assert isinstance(status, Status)
    assert status.connections[0].status == "unconfigured"
    (asked,) = server.asked
    assert str(asked.url) == "https://pay.test/base/api/payments/stripe/status"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["user-agent"] == f"billhook-python/{billhook.__version__}"


def test_what_is_not_given_is_not_sent_and_none_takes_away(client: Callable[..., Any]) -> None:
    server = Server(*(ok({"product": PRODUCT}) for _ in range(3)))

    client(server, lambda c: c.products.create("test", name="Tea", idempotency_key="k1"))
    client(server, lambda c: c.products.update("test", "prod_1", description=None))
    client(server, lambda c: c.products.update("test", "prod_1", active=False, metadata={"a": ""}))
    assert server.bodies == [
        {"name": "Tea", "idempotencyKey": "k1"},
        {"description": None},
        {"active": False, "metadata": {"a": ""}},
    ]


def test_a_checkout_is_spelt_as_the_wire_spells_it_and_metadata_is_left_alone(
    client: Callable[..., Any],
) -> None:
    server = Server(refusal(409, "PAYMENT_CHECKOUT_ALREADY_EXISTS", nextActions="Choose another."))
    with pytest.raises(ApiError) as caught:
        client(
            server,
            lambda c: c.create_checkout_session(
                "test",
                mode="subscription",
                line_items=[{"price_id": "price_1"}, {"price_id": "price_2", "quantity": 3}],
                success_url="https://shop.test/{CHECKOUT_SESSION_ID}",
                cancel_url="https://shop.test",
                subject={"type": "team", "id": "t1"},
                metadata={"order_id": "7"},
                idempotency_key="order-7",
            ),
        )
    error = caught.value
    assert (error.status, error.code) == (409, "PAYMENT_CHECKOUT_ALREADY_EXISTS")
    assert (error.message, error.next_actions) == ("No.", "Choose another.")
    assert server.bodies == [
        {
            "mode": "subscription",
            "lineItems": [{"priceId": "price_1"}, {"priceId": "price_2", "quantity": 3}],
            "successUrl": "https://shop.test/{CHECKOUT_SESSION_ID}",
            "cancelUrl": "https://shop.test",
            "subject": {"type": "team", "id": "t1"},
            "metadata": {"order_id": "7"},
            "idempotencyKey": "order-7",
        }
    ]


def test_ids_stay_ids_whatever_they_hold(client: Callable[..., Any]) -> None:
    server = Server(ok({"product": PRODUCT, "prices": []}))
    client(server, lambda c: c.products.get("test", "a/b?c#d"))
    assert server.asked[0].url.raw_path.endswith(b"/catalog/products/a%2Fb%3Fc%23d")
    server = Server(ok({"product": PRODUCT, "prices": []}))
    client(server, lambda c: c.products.get("test", ".."))
    assert server.asked[0].url.raw_path.endswith(b"/catalog/products/%2E%2E")
    for empty in ("", " "):
        with pytest.raises(ValueError, match="not an id"):
            client(Server(), lambda c, empty=empty: c.products.get("test", empty))


def event(name: str) -> dict[str, Any]:
    return {
        "environment": "test",
        "eventId": name,
        "eventType": "product.created",
        "livemode": False,
        "accountId": None,
        "objectType": None,
        "objectId": None,
        "processingStatus": "processed",
        "attemptCount": 1,
        "lastError": None,
        "receivedAt": "2026-05-12T22:41:07.123Z",
        "processedAt": None,
        "createdAt": "2026-05-12T22:41:07.123Z",
        "updatedAt": "2026-05-12T22:41:07.123Z",
    }


def test_an_iterator_follows_the_link_with_its_filters_and_to_no_other_host(
    client: Callable[..., Any],
) -> None:
    elsewhere = '<https://thief.test/api?limit=1&startingAfter=c%2F1>; rel="next"'
    server = Server(
        ok({"webhookEvents": [event("evt_1"), event("evt_2")]}, link=elsewhere),
        ok({"webhookEvents": [event("evt_3")]}),
    )
    since = datetime(2026, 5, 12, tzinfo=UTC)
    found = client(server, lambda c: c.events.all("test", status="failed", since=since))
    assert [each.event_id for each in found] == ["evt_1", "evt_2", "evt_3"]
    assert {each.url.host for each in server.asked} == {"pay.test"}
    assert [dict(each.url.params) for each in server.asked] == [
        {"limit": "100", "status": "failed", "since": "2026-05-12T00:00:00.000Z", **more}
        for more in ({}, {"startingAfter": "c/1"})
    ]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_passes_is_tried_again(
    client: Callable[..., Any], pauses: list[float], status: int
) -> None:
    server = Server(httpx.Response(status), httpx.ReadError("lost"), ok(STATUS))
    assert client(server, lambda c: c.status()).connections
    assert len(server.asked) == 3
    assert len(pauses) == 2


def test_in_the_end_the_last_error_is_told(client: Callable[..., Any]) -> None:
    server = Server(*(refusal(503, "INTERNAL_ERROR") for _ in range(4)))
    with pytest.raises(ApiError) as caught:
        client(server, lambda c: c.status(), retries=3)
    assert (caught.value.status, len(server.asked)) == (503, 4)


@pytest.mark.parametrize("failure", [503, httpx.ReadError("lost")])
@pytest.mark.parametrize(
    "work",
    [
        lambda c: c.products.delete("test", "prod_1"),
        lambda c: c.config.remove("test"),
        lambda c: c.events.replay("test", "evt_1", refire=True),
        lambda c: c.create_customer_portal_session("test", subject={"type": "t", "id": "1"}),
    ],
)
def test_what_would_not_be_the_same_twice_is_sent_once(
    client: Callable[..., Any], work: Callable[[Any], Any], failure: Any
) -> None:
    server = Server(httpx.Response(failure) if isinstance(failure, int) else failure)
    with pytest.raises(ApiError):
        client(server, work)
    assert len(server.asked) == 1


def test_a_create_that_is_retried_keeps_its_key(client: Callable[..., Any]) -> None:
    server = Server(httpx.Response(502), ok({"product": PRODUCT}), ok({"product": PRODUCT}))
    client(server, lambda c: c.products.create("test", name="Tea"))
    client(server, lambda c: c.products.create("test", name="Tea"))
    first, again, other = (each["idempotencyKey"] for each in server.bodies)
    assert first == again != other


def test_what_was_never_sent_may_always_be_sent_again(client: Callable[..., Any]) -> None:
    server = Server(httpx.ConnectError("refused"), ok({"productId": "prod_1", "deleted": True}))
    assert client(server, lambda c: c.products.delete("test", "prod_1")).deleted


def test_a_refusal_is_final(client: Callable[..., Any]) -> None:
    server = Server(refusal(401, "AUTH_INVALID_API_KEY"))
    with pytest.raises(ApiError, match=r"No\."):
        client(server, lambda c: c.status())
    assert len(server.asked) == 1


def test_no_answer_is_an_error_with_the_address_and_without_the_key(
    client: Callable[..., Any],
) -> None:
    server = Server(*(httpx.ConnectError("Connection refused") for _ in range(3)))
    with pytest.raises(Unreachable) as caught:
        client(server, lambda c: c.status())
    assert (caught.value.status, caught.value.code) == (0, "UNREACHABLE")
    assert "https://pay.test/base could not be reached: Connection refused" in caught.value.message
    slow = Server(httpx.ReadTimeout("slow"))
    with pytest.raises(Unreachable, match="did not respond in time"):
        client(slow, lambda c: c.status())
    assert len(slow.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status_code": 200, "text": "<html>"}, "in an unknown format"),
        (
            {"status_code": 404, "json": {"detail": "Not Found"}},
            "returned 404, but not in Billhook",
        ),
        ({"status_code": 500, "text": "Internal Server Error"}, "returned 500"),
        (
            {"status_code": 308, "headers": {"location": "https://other.test/x"}},
            "redirects elsewhere",
        ),
    ],
)
def test_an_answer_of_somebody_else_is_told_apart(
    client: Callable[..., Any], answer: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnexpectedAnswer, match=words) as caught:
        client(Server(httpx.Response(**answer)), lambda c: c.status())
    assert caught.value.status == answer["status_code"]
    assert caught.value.next_actions


def test_fields_of_a_newer_server_are_no_harm(client: Callable[..., Any]) -> None:
    product = {**PRODUCT, "colour": "green"}
    found = client(
        Server(ok({"products": [product], "more": 1})), lambda c: c.products.list("test")
    )
    assert found[0].name == "Tea"


@pytest.mark.parametrize("url", ["", "pay.test", "ftp://pay.test", "https://", "https://a.test?b"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_must_be_one(kind: Any, url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        kind(url, KEY)


@pytest.mark.parametrize("key", ["", "  ", "ik_two\nlines", "ik_schön"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_can_be_none_is_refused_and_not_quoted(kind: Any, key: str) -> None:
    with pytest.raises(ValueError, match="the key or token") as caught:
        kind("https://pay.test", key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_does_not_show_its_key(kind: Any) -> None:
    assert KEY not in repr(kind("https://pay.test/api", KEY))
    assert kind("https://pay.test/api/", KEY).base_url == "https://pay.test"


def test_pauses_grow_are_spread_and_listen_to_the_server() -> None:
    lost = httpx.ReadError("lost")
    assert [pause(n, lost, 0.5) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert pause(1, lost, 0.0) < pause(1, lost, 1.0)
    assert pause(1, httpx.Response(503, headers={"retry-after": "5"}), 0.5) == 5.0
    assert pause(1, httpx.Response(503, headers={"retry-after": "86400"}), 0.5) == 10.0
    assert pause(1, httpx.Response(503, headers={"retry-after": "soon"}), 0.5) == 0.25


def test_an_impatient_client_does_not_ask_a_slow_server_again() -> None:
    call = Call("GET", "/x", Status, repeatable=True)
    assert not may_repeat(call, httpx.ReadTimeout("slow"))
    assert may_repeat(call, httpx.ConnectTimeout("slow"))
    assert not may_repeat(call, httpx.Response(500))


def test_the_sync_client_is_what_the_async_one_makes(tmp_path: Path) -> None:
    generate.write(tmp_path)
    committed = Path(generate.__file__).with_name("_sync")
    assert {p.name: p.read_text() for p in tmp_path.glob("*.py")} == {
        p.name: p.read_text() for p in committed.glob("*.py")
    }


def test_importing_billhook_is_cheap_and_its_names_are_there() -> None:
    script = (
        "import sys, billhook; billhook.__version__; "
        "heavy = {'httpx', 'pydantic', 'fastapi', 'asyncpg', 'stripe'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "billhook.Client; assert 'fastapi' not in sys.modules; "
        "assert {'Client', 'create_app'} <= set(dir(billhook))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert all(getattr(billhook, name) for name in billhook.__all__)
    with pytest.raises(AttributeError):
        billhook.nonsense  # noqa: B018
