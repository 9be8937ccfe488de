"""The hosted checkout page."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.errors import InvalidRequest, StripeError
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.flows.checkout_choices import apply_choices
from billhook_sandbox.flows.checkout_payment import Authentication, pay
from billhook_sandbox.objects.account import account_name
from billhook_sandbox.objects.checkout_session import collects_method
from billhook_sandbox.pages.checkout_form import (
    COUNTRIES,
    TAX_ID_TYPES,
    MakeMethod,
    field_of,
    read_choices,
    read_order,
    saved_methods,
)
from billhook_sandbox.pages.formatting import money
from billhook_sandbox.pages.forms import FormError
from billhook_sandbox.pages.order_summary import described_items, heading
from billhook_sandbox.pages.rendering import Pages, read_form, redirect
from billhook_sandbox.pages.sample_methods import BUYER, sample_methods, with_sample_method
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Cause, DataSet, Json


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
            after = session["custom_text"]["after_submit"]
            text, url = after["message"] if after else text, finished_url(session)
        return self.pages.notice(title, text, url, merchant=account_name(data))

    def form(
        self,
        data: DataSet,
        session: Json,
        filled: dict[str, str],
        error: FormError | None = None,
    ) -> Response:
        record = data.need("_checkout", session["id"])
        return self.pages.show(
            "checkout.html",
            session=session,
            merchant=account_name(data),
            items=described_items(data, record["line_items"]),
            heading=heading(data, session, record),
            filled=filled,
            on_trial=record["trial"] and not session["amount_total"],
            email_known=bool((session["customer_details"] or {}).get("email")),
            collects_method=collects_method(session),
            saved_methods=saved_methods(data, session),
            shipping_rates=[
                data.need("shipping_rate", option["shipping_rate"])
                for option in session["shipping_options"]
            ],
            shipping_rate=record["shipping_rate"],
            errors=error.errors if error else {},
            countries=COUNTRIES,
            shipping_countries=shipping_countries(session),
            tax_id_types=TAX_ID_TYPES,
            sample_buyer=BUYER,
            sample_methods=sample_methods(session["payment_method_types"]),
        )

    async def submit(self, request: Request) -> Response:
        filled = await read_form(request)
        found = self.state.find("checkout.session", request.path_params["id"])
        if found is None or found[1]["status"] != "open":
            return await self.show(request)
        data, session = found
        try:
            if filled.get("action") == "update":
                return self.recalculate(data, session, filled)
            if filled.get("test_number"):
                return self.form(data, session, with_sample_method(filled))
            buyer, make_method = read_order(data, session, filled)
            session = self.confirm_total(data, session, buyer, filled)
            return self.attempt(data, session, make_method, buyer, "ask", filled)
        except FormError as error:
            return self.form(data, data.need("checkout.session", session["id"]), filled, error)

    def recalculate(self, data: DataSet, session: Json, filled: dict[str, str]) -> Response:
        """Shows the new total for a code, quantity, shipping method or address."""
        return self.form(data, self.changed(data, session, read_choices(filled)), filled)

    def changed(self, data: DataSet, session: Json, buyer: Buyer) -> Json:
        data.cause = Cause()
        try:
            with data.all_or_nothing(), data.on_clock(find_test_clock(data, session, {})):
                return apply_choices(data, session, buyer)
        except InvalidRequest as error:
            raise FormError({field_of(error): error.message}) from error
        finally:
            self.state.commit(data)

    def confirm_total(
        self, data: DataSet, session: Json, buyer: Buyer, filled: dict[str, str]
    ) -> Json:
        """Nobody pays a total that the page did not show."""
        session = self.changed(data, session, buyer)
        shown, total = filled.get("shown"), session["amount_total"]
        if shown is not None and shown != str(total):
            amount = money(total, session["currency"])
            message = f"The total is now {amount}. Check it and confirm again."
            raise FormError({"pay": message})
        return session

    def attempt(
        self,
        data: DataSet,
        session: Json,
        make_method: MakeMethod | None,
        buyer: Buyer,
        authentication: Authentication,
        filled: dict[str, str],
    ) -> Response:
        data.cause = Cause()
        try:
            with data.all_or_nothing(), data.on_clock(find_test_clock(data, session, {})):
                method = make_method() if make_method and collects_method(session) else None
                session = pay(data, session, method, buyer, authentication)
        except StripeError as error:
            session = data.need("checkout.session", session["id"])
            field = field_of(error) if isinstance(error, InvalidRequest) else "cardNumber"
            return self.form(data, session, filled, FormError({field: error.message}))
        finally:
            # A declined attempt is saved too, with its charge and events.
            self.state.commit(data)
        if session["status"] == "open":
            return redirect(f"{data.need('_checkout', session['id'])['page_url']}/authenticate")
        return redirect(redirect_url(session) or f"/c/pay/{session['id']}")

    async def show_authentication(self, request: Request) -> Response:
        pending = self.pending_authentication(request)
        if pending is None:
            return redirect(f"/c/pay/{request.path_params['id']}")
        data, session, _ = pending
        return self.pages.show("authenticate.html", session=session, merchant=account_name(data))

    async def authenticate(self, request: Request) -> Response:
        decision = (await read_form(request)).get("decision")
        pending = self.pending_authentication(request)
        if pending is None:
            return redirect(f"/c/pay/{request.path_params['id']}")
        data, session, method = pending
        buyer = Buyer(**data.need("_checkout", session["id"])["buyer"])
        filled = {"email": buyer.email or "", "name": buyer.name or ""}
        authentication: Authentication = "confirmed" if decision == "confirmed" else "denied"
        return self.attempt(data, session, lambda: method, buyer, authentication, filled)

    def pending_authentication(self, request: Request) -> tuple[DataSet, Json, Json] | None:
        """The session whose payment requires authentication, and its payment method."""
        found = self.state.find("checkout.session", request.path_params["id"])
        if found is None or found[1]["status"] != "open":
            return None
        data, session = found
        record = data.need("_checkout", session["id"])
        intent = data.get("payment_intent", record["payment_intent"]) or data.get(
            "setup_intent", session["setup_intent"] or record["setup_intent"]
        )
        if intent is None or intent["status"] != "requires_action":
            return None
        return data, session, data.need("payment_method", intent["payment_method"])


def shipping_countries(session: Json) -> dict[str, str]:
    """The countries that the merchant ships to, with their names where they are known."""
    collection = session["shipping_address_collection"] or {"allowed_countries": []}
    return {code: COUNTRIES.get(code, code) for code in collection["allowed_countries"]}


def finished_url(session: Json) -> str | None:
    """Where the buyer goes after the payment: `return_url` if the page is embedded."""
    url: str | None = session["success_url"] or session.get("return_url")
    return url and url.replace("{CHECKOUT_SESSION_ID}", session["id"])


def redirect_url(session: Json) -> str | None:
    """`if_required` only redirects from payment methods that leave the page, which cards don't."""
    stays = session.get("redirect_on_completion") in ("if_required", "never")
    return None if stays else finished_url(session)
