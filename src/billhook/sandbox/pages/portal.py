"""The customer portal: one's subscriptions, to end or to keep."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook.sandbox.events import change
from billhook.sandbox.flows.cancelling import ENDED, at_period_end
from billhook.sandbox.flows.subscribing import product_name
from billhook.sandbox.objects.subscriptions import items_of, period_of
from billhook.sandbox.pages.render import Pages, form_of, go
from billhook.sandbox.store import DataSet, Json
from billhook.sandbox.world import World


class PortalPage:
    def __init__(self, world: World, pages: Pages) -> None:
        self.world = world
        self.pages = pages

    def routes(self) -> list[Route]:
        path = "/p/session/{id}"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.submit, methods=["POST"]),
        ]

    def find(self, request: Request) -> tuple[DataSet, Json, Json] | None:
        """The portal session with its customer, who may be gone meanwhile."""
        found = self.world.find("billing_portal.session", request.path_params["id"])
        customer = found[0].get("customer", found[1]["customer"]) if found else None
        return (*found, customer) if found and customer else None

    def gone(self) -> Response:
        text = "Ask the shop for a new link to your subscriptions."
        return self.pages.notice("This link no longer works", text, status=404)

    async def show(self, request: Request) -> Response:
        found = self.find(request)
        if found is None:
            return self.gone()
        data, session, customer = found
        subscriptions = data.all("subscription").where("customer", customer["id"])[::-1]
        return self.pages.show(
            "portal.html",
            session=session,
            customer=customer,
            merchant=f"Sandbox {data.account}",
            subscriptions=[described(data, found) for found in subscriptions],
        )

    async def submit(self, request: Request) -> Response:
        filled = await form_of(request)
        found = self.find(request)
        if found is None:
            return self.gone()
        data, _, customer = found
        subscription = data.get("subscription", filled.get("subscription"))
        mine = subscription and subscription["customer"] == customer["id"]
        if subscription and mine and subscription["status"] not in ENDED:
            values = at_period_end(data, subscription, filled.get("action") == "cancel")
            change(data, subscription, "customer.subscription.updated", **values)
            self.world.commit(data)
        return go(request.url.path)


def described(data: DataSet, subscription: Json) -> Json:
    items = items_of(data, subscription["id"])
    lines = [
        {
            "name": product_name(data, item["price"]),
            "quantity": item["quantity"],
            "amount": (item["price"]["unit_amount"] or 0) * item["quantity"],
            "recurring": item["price"]["recurring"],
        }
        for item in items
    ]
    return {
        **subscription,
        "lines": lines,
        "period_end": period_of(items)[1],
        "over": subscription["status"] in ENDED,
    }
