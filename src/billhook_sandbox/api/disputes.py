"""Disputes: read, submit evidence, accept."""

from billhook_sandbox.event_log import change
from billhook_sandbox.flows import dispute_lifecycle
from billhook_sandbox.objects.dispute import EVIDENCE_FIELDS
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    boolean,
    clearable,
    list_form,
    merge_metadata,
    metadata,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

EVIDENCE = Form({name: clearable(text) for name in EVIDENCE_FIELDS})
UPDATE = Form({**EXPAND, "evidence": EVIDENCE, "metadata": metadata, "submit": boolean})
LIST = list_form(charge=text, payment_intent=text)


def retrieve(call: Call) -> Json:
    return call.data.need("dispute", call.id)


def list_(call: Call) -> Json:
    by = "payment_intent" if "payment_intent" in call.params else "charge"
    return page(call, "dispute", "/v1/disputes", matching(call, "charge"), by=by)


def update(call: Call) -> Json:
    data, given = call.data, call.params
    dispute, values = data.need("dispute", call.id), {}
    if "evidence" in given or given.get("submit"):
        values = dispute_lifecycle.add_evidence(data, dispute, given)
    if "metadata" in given:
        values["metadata"] = merge_metadata(dispute["metadata"], given["metadata"])
    return change(data, dispute, "charge.dispute.updated", **values)


def close(call: Call) -> Json:
    return dispute_lifecycle.close(call.data, call.data.need("dispute", call.id))


OPERATIONS = (
    Operation("GET", "/v1/disputes", LIST, list_),
    Operation("GET", "/v1/disputes/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/disputes/{id}", UPDATE, update),
    Operation("POST", "/v1/disputes/{id}/close", Form(EXPAND), close),
)
