"""The flow of a portal session: the one action that its page offers."""

from billhook_sandbox.store import Json

TYPES = ("subscription_cancel", "subscription_update", "subscription_update_confirm")


def make_flow(given: Json | None) -> Json | None:
    if given is None:
        return None
    completion = given.get("after_completion", {"type": "portal_homepage"})
    flow: Json = {
        "after_completion": after_completion(completion),
        "customer_update": None,
        "subscription_pause": None,
        "type": given["type"],
    }
    for type_ in TYPES:
        flow[type_] = details(type_, given[type_]) if type_ in given else None
    return flow


def after_completion(given: Json) -> Json:
    hosted = given["type"] == "hosted_confirmation"
    message = {"custom_message": given.get("hosted_confirmation", {}).get("custom_message")}
    return {
        "hosted_confirmation": message if hosted else None,
        "redirect": given.get("redirect") if given["type"] == "redirect" else None,
        "type": given["type"],
    }


def details(type_: str, given: Json) -> Json:
    if type_ == "subscription_cancel":
        return {"retention": None, **given}
    if type_ == "subscription_update":
        return given
    discounts = [
        {"coupon": None, "promotion_code": None, **each} for each in given.get("discounts", [])
    ]
    items = [{"price": None, **item} for item in given["items"]]
    return {**given, "discounts": discounts or None, "items": items}
