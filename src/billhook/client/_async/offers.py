"""Offers: terms of checkouts that an administrator defines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from billhook.client._async.transport import AsyncTransport
from billhook.client.inputs import OptionsInput, camel, given
from billhook.client.request import Call, path
from billhook.models import DeletedOffer, Offer, OfferResponse, Offers, iso
from billhook.settings import Environment

# Inside a class that has a method `list`, that name is the method's.
OfferList: TypeAlias = list[Offer]


class AsyncOffers:
    """Offers, which requests name as `offer`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, environment: Environment) -> OfferList:
        """All offers, by name."""
        call = Call("GET", path(environment, "offers"), Offers, repeatable=True)
        return (await self._transport.send(call)).model.offers

    async def get(self, environment: Environment, name: str) -> Offer:
        """One offer, with the number of checkouts that use it."""
        call = Call("GET", path(environment, "offers", name), OfferResponse, repeatable=True)
        return (await self._transport.send(call)).model.offer

    async def set(
        self,
        environment: Environment,
        name: str,
        *,
        options: OptionsInput | None = None,
        price_ids: Sequence[str] | None = None,
        lookup_keys: Sequence[str] | None = None,
        active: bool = True,
        redeem_by: datetime | None = None,
        max_redemptions: int | None = None,
    ) -> Offer:
        """Create or replace an offer. Checkouts that already use it keep their terms.

        Args:
            options: what it decides; names are in Python's style.
            price_ids, lookup_keys: if there are any, it applies only to checkouts of these prices.
            redeem_by: when it ends.
            max_redemptions: how many checkouts, open or completed, may use it.
        """
        body = given(
            options=None if options is None else camel(options),
            priceIds=None if price_ids is None else [*price_ids],
            lookupKeys=None if lookup_keys is None else [*lookup_keys],
            active=active,
            redeemBy=None if redeem_by is None else iso(redeem_by),
            maxRedemptions=max_redemptions,
        )
        route = path(environment, "offers", name)
        call = Call("PUT", route, OfferResponse, body=body, repeatable=True)
        return (await self._transport.send(call)).model.offer

    async def delete(self, environment: Environment, name: str) -> DeletedOffer:
        """Delete an offer. Checkouts that already use it keep their terms."""
        # Not repeated: the second time, the server would respond that there is none.
        route = path(environment, "offers", name)
        return (await self._transport.send(Call("DELETE", route, DeletedOffer))).model
