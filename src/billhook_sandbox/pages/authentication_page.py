"""The bank's page to which a payment intent redirects: the customer confirms or denies."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.errors import CardError
from billhook_sandbox.flows import payment_intent_lifecycle
from billhook_sandbox.objects.account import account_name
from billhook_sandbox.pages.rendering import Pages, read_form, redirect
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import DataSet, Json


class AuthenticationPage:
    def __init__(self, state: SandboxState, pages: Pages) -> None:
        self.state = state
        self.pages = pages

    def routes(self) -> list[Route]:
        path = f"{payment_intent_lifecycle.AUTHENTICATION_PATH}/{{id}}"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.submit, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        found = self.waiting(request)
        if found is None:
            text = "It was completed before, or the URL is wrong."
            return self.pages.notice("There is nothing to confirm", text, status=404)
        data, intent = found
        session = {
            "mode": "payment",
            "amount_total": intent["amount"],
            "currency": intent["currency"],
        }
        return self.pages.show("authenticate.html", session=session, merchant=account_name(data))

    async def submit(self, request: Request) -> Response:
        confirmed = (await read_form(request)).get("decision") == "confirmed"
        found = self.waiting(request)
        if found is None:
            return await self.show(request)
        data, intent = found
        return_url = intent["next_action"]["redirect_to_url"]["return_url"]
        try:
            with data.all_or_nothing(), data.on_clock(find_test_clock(data, intent, {})):
                payment_intent_lifecycle.authenticate(data, intent, confirmed)
            status = "succeeded"
        except CardError:
            status = "failed"
        finally:
            # A denied authentication is saved too, with its events.
            self.state.commit(data)
        return redirect(with_result(return_url, intent, status))

    def waiting(self, request: Request) -> tuple[DataSet, Json] | None:
        """The intent, while it redirects here."""
        found = self.state.find("payment_intent", request.path_params["id"])
        if found is None or found[1]["status"] != "requires_action":
            return None
        return found if found[1]["next_action"]["type"] == "redirect_to_url" else None


def with_result(return_url: str, intent: Json, status: str) -> str:
    """The return URL with the parameters that Stripe adds."""
    added = {
        "payment_intent": intent["id"],
        "payment_intent_client_secret": intent["client_secret"],
        "redirect_status": status,
    }
    address, hash_, fragment = return_url.partition("#")
    return f"{address}{'&' if '?' in address else '?'}{urlencode(added)}{hash_}{fragment}"
