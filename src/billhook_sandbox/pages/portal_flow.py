"""The portal page of a session with a flow: it offers one action, then leads on."""

from typing import TYPE_CHECKING

from starlette.responses import Response

from billhook_sandbox.api.subscriptions import update as update_subscription
from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.errors import StripeError
from billhook_sandbox.flows.invoice_drafts import product_name
from billhook_sandbox.objects.account import account_name
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.pages.forms import FormError
from billhook_sandbox.pages.rendering import Pages, redirect
from billhook_sandbox.pages.sample_methods import BUYER, sample_methods
from billhook_sandbox.routing import Call
from billhook_sandbox.store import Json

if TYPE_CHECKING:
    from billhook_sandbox.pages.portal_page import PortalVisit

ACTIONS = {
    "payment_method_update": "add_card",
    "subscription_cancel": "cancel",
    "subscription_update": "change",
    "subscription_update_confirm": "confirm",
}
DONE = {
    "payment_method_update": "Your payment method has been updated.",
    "subscription_cancel": "Your subscription has been canceled.",
    "subscription_update": "Your subscription has been updated.",
    "subscription_update_confirm": "Your subscription has been updated.",
}


class PortalFlow:
    def __init__(self, visit: "PortalVisit", pages: Pages) -> None:
        self.visit = visit
        self.pages = pages
        self.flow: Json | None = visit.session["flow"]

    def is_open(self) -> bool:
        """Whether the session has a flow that was not completed yet. After a flow that ends on the
        portal's home page, the session shows that page."""
        completed = self.visit.data.get("_completed_flow", self.visit.session["id"])
        if self.flow is None:
            return False
        returns_home = self.flow["after_completion"]["type"] == "portal_homepage"
        return completed is None or not returns_home

    def changes_plan(self) -> bool:
        """Whether the page that the session shows now has a choice of plans."""
        return not self.is_open() or (self.flow or {})["type"] == "subscription_update"

    def page(self, filled: dict[str, str], error: FormError | None = None) -> Response:
        visit, flow = self.visit, self.flow or {}
        if visit.data.get("_completed_flow", visit.session["id"]):
            return self.completed()
        return self.pages.show(
            "portal_flow.html",
            session=visit.session,
            flow=flow,
            action=ACTIONS[flow["type"]],
            merchant=account_name(visit.data),
            features=visit.features(),
            subscription=self.subscription(),
            change=self.confirmed_change() if flow["subscription_update_confirm"] else None,
            filled=filled,
            sample_buyer=BUYER,
            sample_methods=sample_methods(["card"]),
            errors=error.errors if error else {},
        )

    def subscription(self) -> Json | None:
        flow = self.flow or {}
        details: Json = flow.get(flow["type"]) or {}
        for found in self.visit.subscriptions() if details else ():
            if found["id"] == details.get("subscription"):
                return found
        return None

    def confirmed_change(self) -> Json:
        """The item as it will be: its name, quantity and amount."""
        data, confirm = self.visit.data, (self.flow or {})["subscription_update_confirm"]
        wanted = confirm["items"][0]
        items = items_of(data, confirm["subscription"])
        current = next(item for item in items if item["id"] == wanted["id"])
        price = data.get("price", wanted["price"]) or current["price"]
        quantity = wanted.get("quantity", current.get("quantity", 1))
        return {
            "name": product_name(data, price),
            "quantity": quantity,
            "amount": amount_for(data, price, quantity),
            "price": price,
            "due": self.confirmed_due(),
        }

    def submit(self, filled: dict[str, str]) -> Response | None:
        """Completes the flow; returns None if its page should be shown again."""
        visit, flow = self.visit, self.flow or {}
        if visit.data.get("_completed_flow", visit.session["id"]):
            return self.completed()
        action = ACTIONS[flow["type"]]
        if filled.get("action") != action:
            return None
        if action == "confirm":
            self.confirm()
        else:
            subscription = self.subscription()
            named = {"subscription": subscription["id"]} if subscription else {}
            visit.act({**filled, **named})
        visit.data.put({"id": visit.session["id"], "object": "_completed_flow"})
        return self.completed()

    def confirmed_due(self) -> Json | None:
        """None if the page can't say: because of a discount, or because the change is refused."""
        visit, confirm = self.visit, (self.flow or {})["subscription_update_confirm"]
        if confirm["discounts"]:
            return None
        try:
            with visit.data.on_clock(find_test_clock(visit.data, visit.session, {})):
                return visit.due_after(confirm["subscription"], self.confirmed_params())
        except StripeError:
            return None

    def confirmed_params(self) -> Json:
        """The parameters of the API for the change, without its discounts."""
        items = [
            {key: value for key, value in item.items() if value is not None}
            for item in (self.flow or {})["subscription_update_confirm"]["items"]
        ]
        behavior = self.visit.features()["subscription_update"]["proration_behavior"]
        return {"items": items, "proration_behavior": behavior}

    def confirm(self) -> None:
        """Uses the API's handler, for the same behavior."""
        visit, confirm = self.visit, (self.flow or {})["subscription_update_confirm"]
        params = self.confirmed_params()
        if confirm["discounts"]:
            params["discounts"] = [
                {key: value for key, value in each.items() if value is not None}
                for each in confirm["discounts"]
            ]
        update_subscription(Call(visit.data, params, {"id": confirm["subscription"]}, ""))

    def completed(self) -> Response:
        flow = self.flow or {}
        completion = flow["after_completion"]
        if completion["type"] == "redirect":
            return redirect(completion["redirect"]["return_url"])
        if completion["type"] == "portal_homepage":
            return redirect(f"/p/session/{self.visit.session['id']}")
        text = completion["hosted_confirmation"]["custom_message"] or "You can close this page."
        merchant = account_name(self.visit.data)
        url = self.visit.session["return_url"]
        return self.pages.notice(DONE[flow["type"]], text, url, merchant)
