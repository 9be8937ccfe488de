"""Offers: terms of checkouts that an administrator defines (docs/how-to/offers.md)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from billhook.access.permissions import OFFER, changes
from billhook.checkout import offers
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, answer
from billhook.models import DeletedOffer, OfferResponse, Offers, SetOffer
from billhook.models.runtime import OfferName
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/offers",
    tags=["Offers"],
    dependencies=ADMIN,
    route_class=AdminRoute,
)
Name = Annotated[OfferName, Path()]


@router.get("", dependencies=NO_QUERY, response_model=Offers, responses=errors(400, 401, 403, 503))
async def all_offers(environment: Environment, services: ServicesOf) -> Response:
    """All offers, by name."""
    return answer(Offers(offers=await offers.offers(services.database, environment)))


@router.get(
    "/{name}",
    dependencies=NO_QUERY,
    response_model=OfferResponse,
    responses=errors(400, 401, 403, 404, 503),
)
async def one_offer(environment: Environment, name: Name, services: ServicesOf) -> Response:
    """Get an offer, with the number of checkouts that use it."""
    return answer(OfferResponse(offer=await offers.offer(services.database, environment, name)))


@router.put(
    "/{name}",
    dependencies=NO_QUERY,
    response_model=OfferResponse,
    responses=errors(400, 401, 403, 413, 503),
    openapi_extra=body_of(SetOffer),
)
@changes("offer.set", target="name", row=OFFER)
async def set_offer(
    environment: Environment, name: Name, request: Request, services: ServicesOf
) -> Response:
    """Create or replace an offer. Checkouts that already use it keep their terms."""
    given = await read_json(request, SetOffer)
    made = await offers.set_offer(services.database, environment, name, given)
    return answer(OfferResponse(offer=made))


@router.delete(
    "/{name}",
    dependencies=NO_QUERY,
    response_model=DeletedOffer,
    responses=errors(400, 401, 403, 404, 503),
)
@changes("offer.delete", target="name", row=OFFER)
async def delete_offer(environment: Environment, name: Name, services: ServicesOf) -> Response:
    """Delete an offer. Checkouts that already use it keep their terms."""
    await offers.delete_offer(services.database, environment, name)
    return answer(DeletedOffer(name=name, deleted=True))
