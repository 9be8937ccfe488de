"""What all operations have in common: keys, errors, lists, expansion and idempotency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from threading import Barrier
from uuid import uuid4

import httpx
import pytest
import stripe

from sandbox.shop import Sandbox, Shop, wait_until, web


def test_the_account_is_the_same_for_all_its_keys_and_in_both_modes(sandbox: Sandbox) -> None:
    keys = ("sk_test_harbour_1", "rk_test_harbour_2", "sk_live_harbour", "sk_test_other")
    found = [Shop(sandbox, key).v1.accounts.retrieve_current() for key in keys]
    assert len({account.id for account in found[:3]}) == 1
    assert found[3].id != found[0].id
    assert found[0].charges_enabled
    assert found[0].email == "harbour@sandbox.example"


def test_live_mode_has_its_own_data_and_says_so(sandbox: Sandbox) -> None:
    test, live = Shop(sandbox, "sk_test_pier"), Shop(sandbox, "sk_live_pier")
    product = live.v1.products.create({"name": "Tea"})
    assert product.livemode
    assert test.v1.products.list().data == []
    paid = live.paid()
    assert paid["id"].startswith("cs_live_a1")
    assert {event["livemode"] for event in live.events()} == {True}


@pytest.mark.parametrize("key", ["", "pk_test_shop", "sk_test_", "nonsense"])
def test_an_invalid_key_is_rejected(sandbox: Sandbox, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = web.get(f"{sandbox.url}/v1/account", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_revoked_key_is_rejected_and_another_key_of_the_account_works(sandbox: Sandbox) -> None:
    sandbox.control("revoke_key", key="sk_test_quay_1")
    with pytest.raises(stripe.AuthenticationError):
        Shop(sandbox, "sk_test_quay_1").v1.accounts.retrieve_current()
    Shop(sandbox, "sk_test_quay_2").v1.accounts.retrieve_current()


def test_basic_authorization_works(sandbox: Sandbox) -> None:
    answer = web.get(f"{sandbox.url}/v1/account", auth=("sk_test_curl", ""))
    assert answer.status_code == 200


def test_every_response_has_its_request_id_version_and_date(shop: Shop) -> None:
    shop.sandbox.control("advance", seconds=3600)
    answer = shop.raw("GET", "/v1/products")
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["stripe-version"] == "2026-10-28.endive"
    moment = parsedate_to_datetime(answer.headers["date"]).timestamp()
    product = shop.v1.products.create({"name": "Tea"})
    assert abs(moment - product.created) <= 2, "the Date header follows the sandbox's clock"


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/products/", "/v2/nothing", "/"])
def test_an_unknown_route_is_stripes_404(shop: Shop, path: str) -> None:
    answer = shop.raw("GET", path)
    assert answer.status_code == 404
    assert "Unrecognized request URL (GET:" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/v1/tax_rates", "POST /v1/tax_rates is a Stripe operation"),
        ("POST", "/v1/tax_rates", "(tax_rates.create)"),
        ("GET", "/v1/treasury/transactions/trxn_1", "(treasury.transactions.retrieve)"),
        ("GET", "/v1/products/search", "(products.search)"),
    ],
)
def test_an_unsupported_operation_is_named(
    shop: Shop, method: str, path: str, operation: str
) -> None:
    """And not handled by a route whose placeholder matches the word as an id."""
    answer = shop.raw(method, path)
    assert answer.status_code == 501
    assert operation in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "product"),
        ({"product": "prod_gone", "unit_amount": "1"}, "parameter_missing", "currency"),
        ({"currency": "usd", "colour": "red"}, "parameter_unknown", "colour"),
        ({"currency": "usd", "unit_amount": "1.5"}, "parameter_invalid_integer", "unit_amount"),
        ({"currency": "usd", "nickname": ""}, "parameter_invalid_empty", "nickname"),
        (
            {"currency": "usd", "recurring[count]": "2"},
            "parameter_unknown",
            "recurring[count]",
        ),
    ],
)
def test_fact_40_invalid_parameters_are_named(
    shop: Shop, form: dict[str, str], code: str, param: str
) -> None:
    answer = shop.raw("POST", "/v1/prices", **form)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert error["type"] == "invalid_request_error"
    assert "request_log_url" in error


def test_fact_42_lists_are_newest_first_and_paged_in_both_directions(shop: Shop) -> None:
    names = [shop.v1.products.create({"name": f"Tea {i}"}).id for i in range(5)][::-1]
    first = shop.v1.products.list({"limit": 2})
    assert [p.id for p in first.data] == names[:2]
    assert first.has_more
    second = shop.v1.products.list({"limit": 2, "starting_after": names[1]})
    assert [p.id for p in second.data] == names[2:4]
    back = shop.v1.products.list({"limit": 2, "ending_before": names[4]})
    assert [p.id for p in back.data] == names[2:4]
    assert back.has_more
    assert [p.id for p in first.auto_paging_iter()] == names


def test_a_list_continues_after_an_object_that_was_deleted(shop: Shop) -> None:
    names = [shop.v1.customers.create({"name": f"{i}"}).id for i in range(3)][::-1]
    shop.v1.customers.delete(names[1])
    page = shop.v1.customers.list({"starting_after": names[1]})
    assert [customer.id for customer in page.data] == names[2:]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"limit": "0"}, "between 1 and 100"),
        ({"limit": "101"}, "between 1 and 100"),
        ({"starting_after": "prod_a", "ending_before": "prod_b"}, "can't use both"),
        ({"starting_after": "prod_gone"}, "No such product"),
    ],
)
def test_invalid_pages_are_rejected(shop: Shop, params: dict[str, str], message: str) -> None:
    answer = shop.raw("GET", "/v1/products", **params)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_lists_are_filtered_by_time_of_creation(shop: Shop) -> None:
    early = shop.v1.products.create({"name": "Early"})
    shop.sandbox.control("advance", seconds=100)
    late = shop.v1.products.create({"name": "Late"})
    after = shop.v1.products.list({"created": {"gt": early.created}})
    before = shop.v1.products.list({"created": {"lt": late.created}})
    assert [[p.id for p in page.data] for page in (after, before)] == [[late.id], [early.id]]


@pytest.mark.parametrize(
    "path", ["nonsense", "product.nonsense", "currency", "product.default_price.product.a.b"]
)
def test_expanding_an_unknown_property_is_rejected(shop: Shop, path: str) -> None:
    price = shop.price()
    answer = shop.raw("GET", f"/v1/prices/{price}", **{"expand[]": path})
    assert answer.status_code == 400


def test_expanding_does_not_change_stored_objects(shop: Shop) -> None:
    price = shop.v1.prices.retrieve(shop.price(), {"expand": ["product"]})
    assert isinstance(price.product, stripe.Product)
    assert isinstance(shop.v1.prices.retrieve(price.id).product, str)


def test_a_repeated_request_gets_the_first_response(shop: Shop) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first = shop.raw("POST", "/v1/products", headers, name="Tea")
    again = shop.raw("POST", "/v1/products", headers, name="Tea")
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(shop.v1.products.list().data) == 1
    event = shop.events()[0]
    assert event["request"]["idempotency_key"] == headers["Idempotency-Key"]
    assert event["request"]["id"] == first.headers["request-id"]


@pytest.mark.parametrize(
    ("path", "form"), [("/v1/products", {"name": "Cup"}), ("/v1/customers", {"name": "Tea"})]
)
def test_fact_38_a_key_used_with_other_parameters_is_rejected(
    shop: Shop, path: str, form: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    shop.raw("POST", "/v1/products", headers, name="Tea")
    answer = shop.raw("POST", path, headers, **form)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "idempotency_error")
    assert "code" not in error


def test_fact_37_a_failed_validation_does_not_use_up_the_key(shop: Shop) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    assert shop.raw("POST", "/v1/products", headers).status_code == 400
    assert shop.raw("POST", "/v1/products", headers, name="Tea").status_code == 200


def test_a_decline_is_stored(shop: Shop) -> None:
    path = f"/v1/payment_pages/{shop.session(customer_email='a@b.co').id}/confirm"
    headers = {"Idempotency-Key": str(uuid4())}
    form = {"payment_method": "pm_card_chargeDeclined"}
    first = shop.raw("POST", path, headers, **form)
    again = shop.raw("POST", path, headers, **form)
    assert (first.status_code, again.status_code) == (402, 402)
    assert first.content == again.content
    assert shop.types("charge") == ["charge.failed"]


def test_the_same_key_at_the_same_time_is_a_conflict(shop: Shop) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    path = "/v1/customers"
    shop.sandbox.control("latency", seconds=0.5, path_prefix=path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shop.raw, "POST", path, headers, name="Ada")
        wait_until(lambda: shop.types() == ["customer.created"])
        second = shop.raw("POST", path, headers, name="Ada")
    shop.sandbox.control("latency", seconds=0, path_prefix=path)
    assert (first.result().status_code, second.status_code) == (200, 409)
    assert second.json()["error"]["code"] == "idempotency_key_in_use"
    assert len(shop.v1.customers.list().data) == 1


def test_fact_37_fifty_identical_requests_at_once_have_one_effect(shop: Shop) -> None:
    """One is executed; the others get a conflict, or its response once it exists."""
    headers = {"Idempotency-Key": str(uuid4())}
    start = Barrier(50)

    def send(_: int) -> httpx.Response:
        start.wait()
        return shop.raw("POST", "/v1/customers", headers, name="Ada")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    first = [a for a in answers if a.status_code == 200 and "idempotent-replayed" not in a.headers]
    assert len(first) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "idempotency_key_in_use"
        else:
            assert answer.content == first[0].content
    again = shop.raw("POST", "/v1/customers", headers, name="Ada")
    assert (again.content, again.headers["idempotent-replayed"]) == (first[0].content, "true")
    assert shop.types() == ["customer.created"]


def test_fact_38_fifty_requests_at_once_while_the_first_is_in_flight(shop: Shop) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    shop.sandbox.control("latency", seconds=1, path_prefix="/v1/customers")
    with ThreadPoolExecutor(50) as pool:
        first = pool.submit(shop.raw, "POST", "/v1/customers", headers, name="Ada")
        wait_until(lambda: shop.types() == ["customer.created"])
        # The 409s must not be delayed as well.
        rest = list(
            pool.map(lambda _: shop.raw("POST", "/v1/customers", headers, name="Ada"), range(49))
        )
    shop.sandbox.control("latency", seconds=0, path_prefix="/v1/customers")
    assert first.result().status_code == 200
    codes = {a.json()["error"]["code"] for a in rest if a.status_code == 409}
    assert codes == {"idempotency_key_in_use"}
    assert all(a.status_code == 409 or a.content == first.result().content for a in rest)
    assert shop.types() == ["customer.created"]


@pytest.mark.parametrize(
    ("path", "form", "code", "param"),
    [
        ("/v1/products", {}, "parameter_missing", "name"),
        ("/v1/products", {"name": "Tea", "shippable": "perhaps"}, None, "shippable"),
        ("/v1/refunds", {"amount": "1", "reason": "bored"}, None, "reason"),
        ("/v1/customers", {"address": "Rome"}, None, "address"),
        ("/v1/customers", {"tax_id_data[0][value]": "1"}, "parameter_missing", None),
        ("/v1/checkout/sessions", {"after": "1"}, "parameter_unknown", "after"),
    ],
)
def test_what_stripe_rejects_is_rejected_with_its_message(
    shop: Shop, path: str, form: dict[str, str], code: str | None, param: str | None
) -> None:
    error = shop.raw("POST", path, **form).json()["error"]
    assert error["type"] == "invalid_request_error"
    assert (error.get("code"), error["param"]) == (code, param or "tax_id_data[0][type]")


def test_an_unsupported_parameter_is_named(shop: Shop) -> None:
    """Ignoring it, or calling it unknown, would mislead an app about Stripe."""
    answer = shop.raw("POST", "/v1/products", name="Tea", **{"package_dimensions[height]": "1"})
    assert answer.status_code == 400, "Stripe wants all four dimensions, and says so first"
    four = {f"package_dimensions[{name}]": "1" for name in ("height", "length", "weight", "width")}
    answer = shop.raw("POST", "/v1/products", name="Tea", **four)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (501, "package_dimensions")
    assert "POST /v1/products" in error["message"]


def test_fact_43_payment_method_types_are_rejected_since_endive(shop: Shop) -> None:
    answer = shop.raw("POST", "/v1/checkout/sessions", **{"payment_method_types[]": "card"})
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("parameter_unknown", "payment_method_types")
    session = shop.get(f"/v1/checkout/sessions/{shop.session().id}")
    assert "payment_method_types" in session
    assert "allowed_payment_method_types" in session


def test_payment_methods_are_not_listed_by_when_they_were_created(shop: Shop) -> None:
    answer = shop.raw("GET", "/v1/payment_methods", **{"created[gte]": "1"})
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("parameter_unknown", "created")
