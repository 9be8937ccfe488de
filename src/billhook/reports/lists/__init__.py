"""The lists of an operator (contract section 3.2): search, sort and paging in both directions.

Every list walks indexes in its own order from a cursor on, and every search is a look-up in an
index; none reads a whole table. A list of several types or statuses walks the index (type, status,
time) once for each pair and merges what it finds, so it never passes by rows that don't fit.
"""

from billhook.reports.lists.customers import customer, customers, names_of, subjects_of
from billhook.reports.lists.events import event_types, events
from billhook.reports.lists.mirrored import mirrored
from billhook.reports.lists.products import products
from billhook.reports.lists.subscriptions import subscriptions
from billhook.reports.lists.transactions import payment, payments, transactions

__all__ = [
    "customer",
    "customers",
    "event_types",
    "events",
    "mirrored",
    "names_of",
    "payment",
    "payments",
    "products",
    "subjects_of",
    "subscriptions",
    "transactions",
]
