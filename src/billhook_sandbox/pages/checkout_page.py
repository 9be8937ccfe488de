"""The hosted checkout page."""

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook_sandbox.cards import CARDS, IBANS
from billhook_sandbox.errors import InvalidRequest, StripeError
from billhook_sandbox.flows.checkout_payment import Authentication, Buyer, pay
from billhook_sandbox.objects.payment_method import make_card, make_sepa_debit
from billhook_sandbox.pages.forms import FormError, read_card
from billhook_sandbox.pages.rendering import Pages, merchant_name, read_form, redirect
from billhook_sandbox.params import email
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import DataSet, Json

COUNTRIES = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BR": "Brazil", "CA": "Canada",
    "CH": "Switzerland", "DE": "Germany", "DK": "Denmark", "ES": "Spain", "FI": "Finland",
    "FR": "France", "GB": "United Kingdom", "IE": "Ireland", "IN": "India", "IT": "Italy",
    "JP": "Japan", "MX": "Mexico", "NL": "Netherlands", "NO": "Norway", "NZ": "New Zealand",
    "PL": "Poland", "PT": "Portugal", "SE": "Sweden", "SG": "Singapore", "US": "United States",
}  # fmt: skip


class CheckoutPage:
    def __init__(self, state: SandboxState, pages: Pages) -> None:
        self.state = state
        self.pages = pages

    def routes(self) -> list[Route]:
        path = "/c/pay/{id}"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.submit, methods=["POST"]),
            Route(f"{path}/authenticate", self.show_authentication, methods=["GET"]),
            Route(f"{path}/authenticate", self.authenticate, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        found = self.state.find("checkout.session", request.path_params["id"])
        if found is None:
            text = "Check the URL or contact the merchant."
            return self.pages.notice("This page could not be found", text, status=404)
        data, session = found
        if session["status"] != "open":
            return self.show_closed(data, session)
        details = session["customer_details"] or {}
        filled = {"email": details.get("email") or "", "name": details.get("name") or ""}
        return self.form(data, session, filled)

    def show_closed(self, data: DataSet, session: Json) -> Response:
        if session["status"] == "expired":
            title, text = "This checkout session has expired", "You have not been charged."
            url = session["cancel_url"]
        else:
            title, text = "You’re all set", "You’ve already completed this checkout session."
            url = success_url(session)
        return self.pages.notice(title, text, url, merchant=merchant_name(data))

    def form(
        self,
        data: DataSet,
        session: Json,
        filled: dict[str, str],
        error: str | None = None,
        field: str | None = None,
    ) -> Response:
        return self.pages.show(
            "checkout.html",
            session=session,
            merchant=merchant_name(data),
            items=data.need("_checkout", session["id"])["line_items"],
            filled=filled,
            email_known=bool((session["customer_details"] or {}).get("email")),
            error=error,
            field=field,
            countries=COUNTRIES,
            cards=CARDS,
            ibans=IBANS,
        )

    async def submit(self, request: Request) -> Response:
        filled = await read_form(request)
        found = self.state.find("checkout.session", request.path_params["id"])
        if found is None or found[1]["status"] != "open":
            return await self.show(request)
        data, session = found
        try:
            buyer = read_buyer(session, filled)
            method = read_method(data, session, filled)
        except FormError as error:
            return self.form(data, session, filled, error.message, error.field)
        return self.attempt(data, session, method, buyer, "ask", filled)

    def attempt(
        self,
        data: DataSet,
        session: Json,
        method: Json,
        buyer: Buyer,
        authentication: Authentication,
        filled: dict[str, str],
    ) -> Response:
        try:
            session = pay(data, session, method, buyer, authentication)
        except StripeError as error:
            session = data.need("checkout.session", session["id"])
            return self.form(data, session, filled, error.message, "cardNumber")
        finally:
            # A declined attempt is saved too, with its charge and events.
            self.state.commit(data)
        if session["status"] == "open":
            return redirect(f"{session['url']}/authenticate")
        return redirect(success_url(session) or f"/c/pay/{session['id']}")

    async def show_authentication(self, request: Request) -> Response:
        pending = self.pending_authentication(request)
        if pending is None:
            return redirect(f"/c/pay/{request.path_params['id']}")
        data, session, _ = pending
        return self.pages.show("authenticate.html", session=session, merchant=merchant_name(data))

    async def authenticate(self, request: Request) -> Response:
        decision = (await read_form(request)).get("decision")
        pending = self.pending_authentication(request)
        if pending is None:
            return redirect(f"/c/pay/{request.path_params['id']}")
        data, session, method = pending
        details = method["billing_details"]
        address = details["address"]
        buyer = Buyer(details["email"], details["name"], address["country"], address["postal_code"])
        filled = {"email": buyer.email or "", "name": buyer.name or ""}
        authentication: Authentication = "confirmed" if decision == "confirmed" else "denied"
        return self.attempt(data, session, method, buyer, authentication, filled)

    def pending_authentication(self, request: Request) -> tuple[DataSet, Json, Json] | None:
        """The session whose payment requires authentication, and its payment method."""
        found = self.state.find("checkout.session", request.path_params["id"])
        if found is None or found[1]["status"] != "open":
            return None
        data, session = found
        record = data.need("_checkout", session["id"])
        intent = data.get("payment_intent", record["payment_intent"]) or data.get(
            "setup_intent", session["setup_intent"]
        )
        if intent is None or intent["status"] != "requires_action":
            return None
        return data, session, data.need("payment_method", intent["payment_method"])


def success_url(session: Json) -> str | None:
    url: str | None = session["success_url"]
    return url and url.replace("{CHECKOUT_SESSION_ID}", session["id"])


def read_buyer(session: Json, filled: dict[str, str]) -> Buyer:
    address = (session["customer_details"] or {}).get("email") or filled.get("email", "")
    try:
        email(address, "email")
    except InvalidRequest as error:
        raise FormError("email", "Enter a valid email address.") from error
    country = filled.get("country", "US")
    if country not in COUNTRIES:
        raise FormError("billingCountry", "Select a country or region.")
    return Buyer(address, filled.get("name") or None, country, filled.get("postal_code") or None)


def read_method(data: DataSet, session: Json, filled: dict[str, str]) -> Json:
    type_ = filled.get("method", "card")
    if type_ not in session["payment_method_types"]:
        raise FormError("method", "Select a payment method.")
    if type_ == "sepa_debit":
        return read_debit(data, filled)
    card, expiry = read_card(filled)
    return make_card(data, card, expiry, None)


def read_debit(data: DataSet, filled: dict[str, str]) -> Json:
    iban = "".join(filled.get("iban", "").split()).upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", iban):
        raise FormError("iban", "Enter a valid IBAN.")
    if not filled.get("name"):
        raise FormError("billingName", "Enter the name of the account holder.")
    return make_sepa_debit(data, iban, None)
