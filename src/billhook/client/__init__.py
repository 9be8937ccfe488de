"""Billhook's API for Python backends: `AsyncClient`, and `Client` for code that doesn't await.

    client = Client("https://pay.example", "ik_…")
    for payment in client.transactions.all("live", status="failed"):
        print(payment.provider_reference_id, payment.amount, payment.currency)

`_sync` is made of `_async` by `python src/billhook/client/generate.py`; change only the latter.
"""

from billhook.client._async import AsyncClient
from billhook.client._sync import Client
from billhook.client.errors import ApiError, UnexpectedAnswer, Unreachable
from billhook.client.inputs import (
    UNSET,
    ActAsInput,
    AfterCompletionInput,
    FlowDataInput,
    ItemChangeInput,
    LineItemInput,
    RecurringInput,
    RefundLineInput,
    SubjectInput,
    UsageEntry,
)
from billhook.client.request import Page

__all__ = [
    "UNSET",
    "ActAsInput",
    "AfterCompletionInput",
    "ApiError",
    "AsyncClient",
    "Client",
    "FlowDataInput",
    "ItemChangeInput",
    "LineItemInput",
    "Page",
    "RecurringInput",
    "RefundLineInput",
    "SubjectInput",
    "UnexpectedAnswer",
    "Unreachable",
    "UsageEntry",
]
