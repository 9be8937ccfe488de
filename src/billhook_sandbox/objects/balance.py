"""The balance: the sum of its transactions, by currency and by whether they can be paid out."""

from billhook_sandbox.store import DataSet, Json


def with_current_status(data: DataSet, transaction: Json) -> Json:
    due = transaction["available_on"] <= data.clock.now()
    return {**transaction, "status": "available" if due else "pending"}


def balance_of(data: DataSet) -> Json:
    sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for stored in data.all("balance_transaction").rows.values():
        one = with_current_status(data, stored)
        by_currency = sums[one["status"]]
        by_currency[one["currency"]] = by_currency.get(one["currency"], 0) + one["net"]
    currencies = sorted(sums["available"].keys() | sums["pending"].keys()) or ["usd"]
    return {
        "object": "balance",
        "livemode": data.livemode,
        **{
            status: [funds(found.get(c, 0), c) for c in currencies]
            for status, found in sums.items()
        },
    }


def funds(amount: int, currency: str) -> Json:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
