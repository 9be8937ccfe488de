"""The outcome of payments to come, decided beforehand: whatever the card, it does as told once."""

from billhook_sandbox.cards import BY_TOKEN, Card
from billhook_sandbox.errors import resource_missing
from billhook_sandbox.store import DataSet, Json


def set_next_outcome(data: DataSet, token: str, times: int, customer: str | None) -> Json:
    """The next `times` payments (of one customer) go as with that test card."""
    if token not in BY_TOKEN:
        raise resource_missing("test card", token, "card", 400)
    name = data.ids.random(16)
    decided = {"card": token, "customer": customer, "times": times}
    return data.put({"id": name, "object": "_outcome", **decided})


def take_next_outcome(data: DataSet, customer: str | None) -> Card | None:
    """The card to go by for one attempt, which uses up the decision."""
    for found in data.all("_outcome").rows.values():
        if found["customer"] in (None, customer):
            if found["times"] > 1:
                data.put({**found, "times": found["times"] - 1})
            else:
                data.remove("_outcome", found["id"])
            return BY_TOKEN[found["card"]]
    return None
