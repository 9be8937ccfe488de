"""The hosted customer portal: subscriptions, payment methods and invoices."""

from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook_sandbox.api.invoice_previews import create as preview_invoice
from billhook_sandbox.api.subscriptions import update as update_subscription
from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.errors import StripeError
from billhook_sandbox.event_log import change
from billhook_sandbox.flows.invoice_drafts import product_name
from billhook_sandbox.flows.subscription_cancellation import (
    ENDED,
    cancel_now,
    with_cancel_at_period_end,
)
from billhook_sandbox.flows.subscription_changes import kept_quantity
from billhook_sandbox.objects.account import account_name
from billhook_sandbox.objects.catalog import advance_amount, billed_units
from billhook_sandbox.objects.invoice_totals import lines_of
from billhook_sandbox.objects.payment_method import attach_method, detach_method, make_card
from billhook_sandbox.objects.subscription import items_of, period_of
from billhook_sandbox.pages.forms import FormError, read_card
from billhook_sandbox.pages.invoice_pdf import invoice_pdf
from billhook_sandbox.pages.portal_flow import PortalFlow
from billhook_sandbox.pages.rendering import HEADERS, Pages, read_form, redirect
from billhook_sandbox.pages.sample_methods import BUYER, sample_methods, with_sample_method
from billhook_sandbox.routing import Call
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Cause, DataSet, Json

MAX_INVOICES = 12
MAX_PLANS = 10


class PortalPage:
    def __init__(self, state: SandboxState, pages: Pages) -> None:
        self.state = state
        self.pages = pages

    def routes(self) -> list[Route]:
        path = "/p/session/{id}"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.submit, methods=["POST"]),
            Route(f"{path}/invoices/{{invoice}}.pdf", self.download, methods=["GET"]),
        ]

    def find(self, request: Request) -> "PortalVisit | None":
        """The portal session and its customer; None if the customer was deleted."""
        found = self.state.find("billing_portal.session", request.path_params["id"])
        customer = found[0].get("customer", found[1]["customer"]) if found else None
        return PortalVisit(*found, customer) if found and customer else None

    def not_found(self) -> Response:
        text = "Contact the merchant for a new link."
        return self.pages.notice("This link is no longer valid", text, status=404)

    async def show(self, request: Request) -> Response:
        visit = self.find(request)
        if visit is None:
            return self.not_found()
        return self.shown(visit)({})

    def shown(self, visit: "PortalVisit") -> Callable[..., Response]:
        """Renders the page that the session shows now."""
        flow = PortalFlow(visit, self.pages)
        return flow.page if flow.is_open() else partial(self.page, visit)

    def preview(self, visit: "PortalVisit", filled: dict[str, str]) -> Response:
        subscription = visit.named_subscription(filled)
        if subscription is None:
            return redirect(f"/p/session/{visit.session['id']}")
        return self.pages.show(
            "portal_change.html",
            session=visit.session,
            merchant=account_name(visit.data),
            subscription=describe(visit.data, subscription, []),
            preview=visit.preview(subscription, filled.get("price", "")),
        )

    def page(
        self, visit: "PortalVisit", filled: dict[str, str], error: FormError | None = None
    ) -> Response:
        features = visit.features()
        return self.pages.show(
            "portal.html",
            session=visit.session,
            customer=visit.customer,
            merchant=account_name(visit.data),
            features=features,
            subscriptions=visit.subscriptions(),
            cards=visit.cards(),
            sample_buyer=BUYER,
            sample_methods=sample_methods(["card"]),
            invoices=visit.invoices() if features["invoice_history"]["enabled"] else [],
            filled=filled,
            errors=error.errors if error else {},
        )

    async def download(self, request: Request) -> Response:
        visit = self.find(request)
        invoice = visit.invoice(request.path_params["invoice"]) if visit else None
        if visit is None or invoice is None:
            return self.not_found()
        name = f'attachment; filename="Invoice-{invoice["number"]}.pdf"'
        body = invoice_pdf(visit.data, invoice)
        headers = {**HEADERS, "Content-Disposition": name}
        return Response(body, media_type="application/pdf", headers=headers)

    async def submit(self, request: Request) -> Response:
        filled = await read_form(request)
        visit = self.find(request)
        if visit is None:
            return self.not_found()
        if filled.get("test_number"):
            filled = {**with_sample_method(filled), "action": "add_card"}
            return self.shown(visit)(filled)
        visit.data.cause = Cause()
        flow = PortalFlow(visit, self.pages)
        show = self.shown(visit)
        try:
            clock = find_test_clock(visit.data, visit.session, {})
            with visit.data.all_or_nothing(), visit.data.on_clock(clock):
                if filled.get("action") == "preview" and flow.changes_plan():
                    return self.preview(visit, filled)
                if flow.is_open():
                    return flow.submit(filled) or redirect(request.url.path)
                visit.act(filled)
        except FormError as error:
            return show(filled, error)
        except StripeError as error:
            return show(filled, FormError({"": error.message}))
        finally:
            self.state.commit(visit.data)
        return redirect(request.url.path)


class PortalVisit:
    """A customer's use of the portal: what the page shows, and the actions of its forms."""

    def __init__(self, data: DataSet, session: Json, customer: Json) -> None:
        self.data = data
        self.session = session
        self.customer = customer

    def features(self) -> Json:
        configuration_id = self.session["configuration"]
        found: Json = self.data.need("billing_portal.configuration", configuration_id)["features"]
        return found

    def owned(self, kind: str) -> list[Json]:
        """Newest first."""
        return self.data.all(kind).where("customer", self.customer["id"])[::-1]

    def subscriptions(self) -> list[Json]:
        return [
            describe(self.data, found, self.plans(found)) for found in self.owned("subscription")
        ]

    def cards(self) -> list[Json]:
        default = self.customer["invoice_settings"]["default_payment_method"]
        used = {found["default_payment_method"] for found in self.active_subscriptions()}
        return [
            {**found, "is_default": found["id"] == default or found["id"] in used}
            for found in self.owned("payment_method")
        ]

    def active_subscriptions(self) -> list[Json]:
        return [found for found in self.owned("subscription") if found["status"] not in ENDED]

    def invoices(self) -> list[Json]:
        invoices = [found for found in self.owned("invoice") if found["status"] != "draft"]
        return invoices[:MAX_INVOICES]

    def invoice(self, invoice_id: str) -> Json | None:
        """One that the page lists."""
        enabled = self.features()["invoice_history"]["enabled"]
        listed = self.invoices() if enabled else []
        return next((found for found in listed if found["id"] == invoice_id), None)

    def plans(self, subscription: Json) -> list[Json]:
        """Prices that a subscription with one item can be changed to."""
        update = self.features()["subscription_update"]
        items = items_of(self.data, subscription["id"])
        if not update["enabled"] or len(items) != 1 or subscription["status"] in ENDED:
            return []
        current = items[0]["price"]["id"]
        offered = {price for product in update.get("products", ()) for price in product["prices"]}
        found = [
            {**price, "name": product_name(self.data, price)}
            for price in self.data.all("price").where("active", True)
            if price["recurring"]
            and price["currency"] == subscription["currency"]
            and price["id"] != current
            and (price["id"] in offered if offered else True)
        ]
        return found[-MAX_PLANS:]

    def act(self, filled: dict[str, str]) -> None:
        """Runs the action of a form, if the configuration allows it."""
        action, features = filled.get("action", ""), self.features()
        if action in ("add_card", "remove_card", "use_card"):
            if features["payment_method_update"]["enabled"]:
                self.change_card(action, filled)
            return
        subscription = self.named_subscription(filled)
        if subscription is None:
            return
        if action == "change":
            self.change_plan(subscription, filled.get("price", ""))
        elif action in ("cancel", "resume") and features["subscription_cancel"]["enabled"]:
            self.cancel(subscription, action, features["subscription_cancel"]["mode"])

    def named_subscription(self, filled: dict[str, str]) -> Json | None:
        """The customer's subscription that the form names, unless it has ended."""
        found = self.data.get("subscription", filled.get("subscription"))
        return found if found in self.active_subscriptions() else None

    def cancel(self, subscription: Json, action: str, mode: str) -> None:
        if action == "cancel" and mode == "immediately":
            cancel_now(self.data, subscription)
            return
        values = with_cancel_at_period_end(self.data, subscription, action == "cancel")
        change(self.data, subscription, "customer.subscription.updated", **values)

    def change_plan(self, subscription: Json, price: str) -> None:
        """Uses the API's handler, for the same behavior."""
        params = self.plan_change(subscription, price)
        update_subscription(Call(self.data, params, {"id": subscription["id"]}, ""))

    def preview(self, subscription: Json, price: str) -> Json:
        """The new plan, and what is due for it."""
        change_ = self.plan_change(subscription, price)
        item, new = change_["items"][0], self.data.need("price", price)
        quantity = item.get("quantity", 1)
        return {
            "amount": advance_amount(self.data, {"price": new, "quantity": quantity}),
            "due": self.due_after(subscription["id"], change_),
            "name": product_name(self.data, new),
            "price": price,
            "quantity": quantity,
            "recurring": new["recurring"],
        }

    def due_after(self, subscription: str, change_: Json) -> Json:
        """The next invoice if the subscription is changed, from the API's handler."""
        params = {"subscription": subscription, "subscription_details": change_}
        invoice = preview_invoice(Call(self.data, params, {}, ""))
        return {
            "at": invoice["next_payment_attempt"],
            "is_now": invoice["next_payment_attempt"] <= self.data.clock.now(),
            "lines": lines_of(self.data, invoice["id"]),
            "total": invoice["amount_due"],
        }

    def plan_change(self, subscription: Json, price: str) -> Json:
        """The parameters of the API for the change, if the configuration allows it."""
        if price not in [plan["id"] for plan in self.plans(subscription)]:
            raise FormError({"price": "Select one of the plans."})
        item = items_of(self.data, subscription["id"])[0]
        kept = kept_quantity(item, self.data.need("price", price))
        return {
            "items": [{"id": item["id"], "price": price, **kept}],
            "proration_behavior": self.features()["subscription_update"]["proration_behavior"],
        }

    def change_card(self, action: str, filled: dict[str, str]) -> None:
        if action == "add_card":
            card, expiry = read_card(filled)
            details = {"name": filled["name"], "email": self.customer["email"]}
            self.set_default(
                attach_method(self.data, make_card(self.data, card, expiry, details), self.customer)
            )
            return
        for method in self.cards():
            if method["id"] == filled.get("card") and not method["is_default"]:
                stored = self.data.need("payment_method", method["id"])
                if action == "remove_card":
                    detach_method(self.data, stored)
                else:
                    self.set_default(stored)

    def set_default(self, method: Json) -> None:
        """Makes the method the default of the customer and their subscriptions."""
        settings = {**self.customer["invoice_settings"], "default_payment_method": method["id"]}
        change(self.data, self.customer, "customer.updated", invoice_settings=settings)
        for subscription in self.active_subscriptions():
            change(
                self.data,
                subscription,
                "customer.subscription.updated",
                default_payment_method=method["id"],
            )


def describe(data: DataSet, subscription: Json, plans: list[Json]) -> Json:
    items = items_of(data, subscription["id"])
    lines = [
        {
            "name": product_name(data, item["price"]),
            "quantity": billed_units(item),
            "amount": advance_amount(data, item),
            "recurring": item["price"]["recurring"],
        }
        for item in items
    ]
    return {
        **subscription,
        "lines": lines,
        "period_end": period_of(items)[1],
        "ended": subscription["status"] in ENDED,
        "plans": plans,
    }
