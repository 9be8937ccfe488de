"""Stripe's entitlements: features that products include, and what each customer is entitled to.

Stripe reports no event about a feature: a sync reads all of them. What a customer is entitled to
comes as a summary, which contains all of it and has no id: the customer identifies it. So a newer
summary replaces an older one, and the entitlements that it does not list are gone.
"""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Children, Kind, Listed
from billhook.kinds.reading import StripeObject, id_of

FEATURE = Kind(
    name="entitlements.feature",
    list_name="features",
    table="stripe_features",
    key="feature_id",
    columns=(
        kind.required("lookup_key"),
        kind.required("name"),
        kind.flag("active"),
        kind.metadata(),
    ),
    path="/v1/entitlements/features",
    by_created=False,
    # Without `archived`, Stripe lists only active features.
    variants=({"archived": False}, {"archived": True}),
    changed_by=(),
    listed=Listed(
        about="Features that products include, as defined in Stripe.",
        references=(),
        choice="lookup_key",
        choices=(),
        summary=("lookup_key", "name", "active"),
    ),
)

ENTITLEMENTS = Children(
    name="entitlements.active_entitlement",
    table="stripe_active_entitlements",
    key="entitlement_id",
    parent="customer_id",
    columns=(
        kind.reference("feature_id", "feature", required=True),
        kind.required("lookup_key"),
    ),
    field="entitlements",
    path="/v1/entitlements/active_entitlements",
    parameter="customer",
    listed=Listed(
        about="The features that customers are entitled to, according to Stripe.",
        references=("customer_id", "feature_id"),
        choice="lookup_key",
        choices=(),
        summary=("customer_id", "lookup_key", "feature_id"),
    ),
)


def _customer(summary: StripeObject) -> str | None:
    return id_of(summary.get("customer"))


SUMMARY = Kind(
    name="entitlements.active_entitlement_summary",
    list_name="entitlements",
    table="stripe_entitlement_summaries",
    key="customer_id",
    columns=(),
    path=ENTITLEMENTS.path,
    has_list=False,
    identify=_customer,
    is_its_children=True,
    changed_by=("entitlements.active_entitlement_summary.updated",),
    children=ENTITLEMENTS,
)
