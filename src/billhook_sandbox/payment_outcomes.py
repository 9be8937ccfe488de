"""Outcomes that are set for the next payments: each one behaves as with a given test card."""

from billhook_sandbox.cards import BY_TOKEN, Card
from billhook_sandbox.errors import resource_missing
from billhook_sandbox.store import DataSet, Json


def set_next_outcome(data: DataSet, token: str, times: int, customer: str | None) -> Json:
    """The next `times` payments (of one customer, if given) behave as with that test card."""
    if token not in BY_TOKEN:
        raise resource_missing("test card", token, "card", 400)
    outcome_id = data.ids.random(16)
    outcome = {"card": token, "customer": customer, "times": times}
    return data.put({"id": outcome_id, "object": "_outcome", **outcome})


def take_next_outcome(data: DataSet, customer: str | None) -> Card | None:
    """The test card that decides this attempt, if one was set; uses the outcome up."""
    for outcome in data.all("_outcome").rows.values():
        if outcome["customer"] in (None, customer):
            if outcome["times"] > 1:
                data.put({**outcome, "times": outcome["times"] - 1})
            else:
                data.remove("_outcome", outcome["id"])
            return BY_TOKEN[outcome["card"]]
    return None
