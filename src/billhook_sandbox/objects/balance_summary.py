"""The balance: the sum of its transactions by currency, available or pending."""

from billhook_sandbox.store import DataSet, Json


def with_current_status(data: DataSet, transaction: Json) -> Json:
    available = transaction["available_on"] <= data.clock.now()
    return {**transaction, "status": "available" if available else "pending"}


def balance_of(data: DataSet) -> Json:
    sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for stored in data.all("balance_transaction").rows.values():
        transaction = with_current_status(data, stored)
        currency, by_currency = transaction["currency"], sums[transaction["status"]]
        by_currency[currency] = by_currency.get(currency, 0) + transaction["net"]
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
