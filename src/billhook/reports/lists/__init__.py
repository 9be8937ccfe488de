"""The lists for operators (contract section 3.2): search, sort and paging in both directions. Every
list scans indexes in its own order from a cursor, and every search is an index lookup; none reads a
whole table. A list of several types or statuses scans the index (type, status, time) once for each
pair and merges the results, so it never reads rows that don't match.
"""

from billhook.reports.lists.audit import audit_log
from billhook.reports.lists.customers import customer, customers, names_of, subjects_of
from billhook.reports.lists.events import event_types, events
from billhook.reports.lists.mirrored import mirrored
from billhook.reports.lists.movements import movements
from billhook.reports.lists.products import products
from billhook.reports.lists.subscriptions import subscription, subscriptions
from billhook.reports.lists.transactions import payment, payments, transactions
from billhook.reports.lists.usage import usage

__all__ = [
    "audit_log",
    "customer",
    "customers",
    "event_types",
    "events",
    "mirrored",
    "movements",
    "names_of",
    "payment",
    "payments",
    "products",
    "subjects_of",
    "subscription",
    "subscriptions",
    "transactions",
    "usage",
]
