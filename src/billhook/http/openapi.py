"""The API's description at `/openapi.json`: every route, its models, examples and errors."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

import billhook
from billhook import models
from billhook.http.limits import LARGEST_HEAD, LONGEST_URL
from billhook.models import (
    ChangeSubscription,
    CreateCheckoutSession,
    CreateCustomerPortalSession,
    ErrorBody,
    Request,
    WebhookReceipt,
)

WEBHOOK_PATH = "/api/webhooks/stripe/{environment}"
_REF = "#/components/schemas/{model}"

# One example for each status; the codes are the contract's (section 1).
_ERRORS: dict[int, tuple[str, str, str]] = {
    400: (
        "The request is invalid, the environment has no Stripe key, or Stripe or the app's own "
        "rules rejected it.",
        "INVALID_INPUT",
        "lineItems.0.quantity: must be a whole number",
    ),
    401: (
        "No credentials, the wrong kind, or expired ones.",
        "AUTH_UNAUTHORIZED",
        "The token has expired.",
    ),
    402: ("The card was declined.", "PAYMENT_METHOD_DECLINED", "Your card was declined."),
    403: (
        "Authenticated, but not allowed.",
        "AUTH_UNAUTHORIZED",
        "The RLS policies of payments.stripe_checkout_sessions do not allow this.",
    ),
    404: (
        "The object does not exist.",
        "PAYMENT_NOT_FOUND",
        "The team t_42 has no Stripe customer in the test environment.",
    ),
    409: (
        "The request conflicts with an existing object or with work in progress.",
        "PAYMENT_CHECKOUT_ALREADY_EXISTS",
        "The idempotency key was already used for another checkout.",
    ),
    408: (
        "The body did not arrive in time.",
        "INVALID_INPUT",
        "The body did not arrive in time.",
    ),
    413: ("The body is too large.", "INVALID_INPUT", "The body must be smaller than 1 MB."),
    414: (
        "The URL is too long.",
        "INVALID_INPUT",
        f"The URL must have at most {LONGEST_URL} bytes.",
    ),
    429: ("Stripe's rate limit was exceeded.", "RATE_LIMITED", "Too many requests."),
    431: (
        "The headers are too large.",
        "INVALID_INPUT",
        f"The headers must have at most {LARGEST_HEAD} bytes.",
    ),
    500: (
        "An internal error, or something is not configured.",
        "INTERNAL_ERROR",
        "An unexpected error occurred.",
    ),
    502: ("Stripe did not respond.", "UPSTREAM_FAILURE", "Stripe could not be reached."),
    503: (
        "The database is unavailable; try again.",
        "INTERNAL_ERROR",
        "The database is not available just now. Nothing was changed; try again.",
    ),
}

_CHECKOUT_EXAMPLES: dict[str, dict[str, Any]] = {
    "payment": {
        "summary": "A one-time payment by a guest",
        "value": {
            "mode": "payment",
            "lineItems": [{"priceId": "price_1QxYz", "quantity": 2}],
            "successUrl": "https://shop.example/done?session={CHECKOUT_SESSION_ID}",
            "cancelUrl": "https://shop.example/cart",
            "metadata": {"order_id": "1001"},
            "idempotencyKey": "0b6f6c1e-9d1c-4b0a-8f55-6a1f8c0f2d3e",
        },
    },
    "subscription": {
        "summary": "A subscription for a team",
        "value": {
            "mode": "subscription",
            "lineItems": [{"priceId": "price_1QxYz"}],
            "successUrl": "https://app.example/billing?done",
            "cancelUrl": "https://app.example/billing",
            "subject": {"type": "team", "id": "t_42"},
            "customerEmail": "owner@team.example",
        },
    },
}
_PORTAL_EXAMPLES: dict[str, dict[str, Any]] = {
    "portal": {
        "summary": "Manage a team's subscription",
        "value": {
            "subject": {"type": "team", "id": "t_42"},
            "returnUrl": "https://app.example/billing",
        },
    },
    "flow": {
        "summary": "Cancel a subscription, then return to the app",
        "value": {
            "subject": {"type": "team", "id": "t_42"},
            "flowData": {
                "type": "subscription_cancel",
                "subscriptionId": "sub_1QxYz",
                "afterCompletion": {
                    "type": "redirect",
                    "returnUrl": "https://app.example/billing?canceled",
                },
            },
        },
    },
}
_CHANGE_EXAMPLES: dict[str, dict[str, Any]] = {
    "plan": {
        "summary": "Another plan, billed now",
        "value": {"lookupKey": "team_yearly", "prorationBehavior": "always_invoice"},
    },
    "seats": {
        "summary": "More seats, on the next invoice",
        "value": {"quantity": 12, "idempotencyKey": "0b6f6c1e-9d1c-4b0a-8f55-6a1f8c0f2d3e"},
    },
}
_EXAMPLES: dict[type[Request], dict[str, dict[str, Any]]] = {
    CreateCheckoutSession: _CHECKOUT_EXAMPLES,
    CreateCustomerPortalSession: _PORTAL_EXAMPLES,
    ChangeSubscription: _CHANGE_EXAMPLES,
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its errors, each with an example."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        description, code, message = _ERRORS[status]
        example = {"error": code, "message": message, "statusCode": status}
        found[status] = {
            "model": ErrorBody,
            "description": description,
            "content": {"application/json": {"example": example}},
        }
    return found


def body_of(model: type[Request], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself."""
    content: dict[str, Any] = {"schema": {"$ref": _REF.format(model=model.__name__)}}
    if model in _EXAMPLES:
        content["examples"] = _EXAMPLES[model]
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def install(app: FastAPI) -> None:
    """Describe every route of `app`, including what FastAPI cannot see."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title="Billhook",
            version=billhook.__version__,
            summary="Stripe payments on your own PostgreSQL",
            description="Wire-compatible with InsForge's payments: its SDK and CLI work unchanged.",
            routes=app.routes,
            servers=app.servers,  # the mount path, which FastAPI records at the first request
        )
        _complete(document)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> None:
    """Add what FastAPI cannot see: bodies that routes read themselves, the webhook,
    authentication."""
    shown: list[tuple[type[Any], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in _bodies(document)),
        (ErrorBody, "serialization"),
        (WebhookReceipt, "serialization"),
    ]
    _, definitions = models_json_schema(shown, ref_template=_REF)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for model, examples in _EXAMPLES.items():
        schemas[model.__name__]["examples"] = [each["value"] for each in examples.values()]
    # FastAPI declares its own error format for each route with parameters, but ours is sent.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            late = [408] if "requestBody" in operation else []
            operation["responses"].update(_described(*late, 414, 431))
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A user token (JWT), an anonymous key (anon_…) or an API key (ik_…).",
        },
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in document["paths"].items():
        if path.startswith("/api/payments/"):
            for operation in operations.values():
                operation.setdefault("security", [{"bearer": []}])
    document["paths"][WEBHOOK_PATH] = {"post": _webhook()}


def _bodies(document: dict[str, Any]) -> list[type[Request]]:
    """The models of the bodies that routes read themselves (`body_of`)."""
    refs = (
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    )
    return [getattr(models, name) for name in sorted({ref.rpartition("/")[2] for ref in refs})]


def _described(*statuses: int) -> dict[str, Any]:
    """Error responses as in the finished document."""
    found = {}
    for status, response in errors(*statuses).items():
        content = response["content"]["application/json"]
        content["schema"] = {"$ref": _REF.format(model="ErrorBody")}
        found[str(status)] = {
            "description": response["description"],
            "content": {"application/json": content},
        }
    return found


def _webhook() -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": "The event is stored. `handled` is false for a repeated delivery.",
            "content": {
                "application/json": {"schema": {"$ref": _REF.format(model="WebhookReceipt")}}
            },
        }
    }
    responses |= _described(400, 401, 408, 409, 413, 414, 431, 500, 503)
    other = "The event belongs to a Stripe account that is not connected. It was not applied."
    responses["409"]["description"] = other
    responses["409"]["content"]["application/json"]["example"] |= {
        "error": "PAYMENT_CONFIG_INVALID",
        "message": "Event evt_1QxYz belongs to Stripe account acct_1A, but acct_1B is connected. "
        "It was not applied.",
    }
    return {
        "tags": ["Webhooks"],
        "summary": "Receive Stripe's events",
        "description": "Called only by Stripe. The signature of the raw body is verified. The "
        "event, everything derived from it and the changes made by the app's triggers commit "
        "together. After any response other than a 2xx, Stripe sends the event again.",
        "operationId": "receive_stripe_event",
        "parameters": [
            {
                "name": "environment",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "enum": ["test", "live"]},
            },
            {
                "name": "stripe-signature",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "example": "t=1764000000,v1=5257a869e7ecebed",
            },
        ],
        "requestBody": {
            "required": True,
            "description": "A Stripe event, exactly as Stripe signed it.",
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "id": "evt_1QxYz",
                        "object": "event",
                        "type": "checkout.session.completed",
                        "created": 1764000000,
                        "livemode": False,
                        "data": {"object": {"id": "cs_test_a1", "object": "checkout.session"}},
                    },
                }
            },
        },
        "responses": responses,
    }
