"""The lists for operators (contract section 3.2): search, sort and paging in both directions. Every
list scans indexes in its own order from a cursor, and every search is an index lookup; none reads a
whole table. A list of several types or statuses scans the index (type, status, time) once for each
pair and merges the results, so it never reads rows that don't match.
"""

from billhook.reports.lists.audit import audit_log
from billhook.reports.lists.customers import customer, customers, subjects_of
from billhook.reports.lists.events import event_types, events
from billhook.reports.lists.labels import (
    Name,
    Payer,
    PaymentLabel,
    SubscriptionLabel,
    customer_names,
    invoice_content,
    payers,
    payment_labels,
    subscription_labels,
)
from billhook.reports.lists.mirrored import mirrored, mirrored_one
from billhook.reports.lists.movements import movements
from billhook.reports.lists.products import products
from billhook.reports.lists.subscriptions import subscription, subscriptions
from billhook.reports.lists.transactions import payment, payments, transactions
from billhook.reports.lists.usage import usage
from billhook.reports.paging import Page

__all__ = [
    "Name",
    "Page",
    "Payer",
    "PaymentLabel",
    "SubscriptionLabel",
    "audit_log",
    "customer",
    "customer_names",
    "customers",
    "event_types",
    "events",
    "invoice_content",
    "mirrored",
    "mirrored_one",
    "movements",
    "payers",
    "payment",
    "payment_labels",
    "payments",
    "products",
    "subjects_of",
    "subscription",
    "subscription_labels",
    "subscriptions",
    "transactions",
    "usage",
]
