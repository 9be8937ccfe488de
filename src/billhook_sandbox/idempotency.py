"""Idempotency keys: the first response is replayed for a day (stripe-facts 37, 38)."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from billhook_sandbox.errors import IdempotencyError, InvalidRequest
from billhook_sandbox.store import DataSet, Json

RETENTION_SECONDS = 24 * 3600


class ApiResponse(NamedTuple):
    status: int
    body: bytes
    replayed: bool = False
    headers: Mapping[str, str] = {}


class Reservation(NamedTuple):
    """Reserves an idempotency key while its request is executed."""

    data: DataSet
    key: str
    fingerprint: str

    def store(self, response: ApiResponse) -> None:
        """Saved in the same transaction as the effect, so that a crash cannot separate them."""
        self.data.put(
            {
                "id": self.key,
                "object": "_idempotency",
                "fingerprint": self.fingerprint,
                "status": response.status,
                "body": response.body.decode(),
                "created": self.data.clock.now(),
            }
        )

    def release(self) -> None:
        self.data.in_flight.discard(self.key)


def begin(data: DataSet, key: str, path: str, params: Json) -> Reservation | ApiResponse:
    """A reservation for the first request with the key, the stored response for later ones."""
    if len(key) > 255:
        raise InvalidRequest("Idempotency-Key can be up to 255 characters long.")
    request = orjson.dumps([path, params], option=orjson.OPT_SORT_KEYS)
    fingerprint = hashlib.sha256(request).hexdigest()
    if key in data.in_flight:
        raise InvalidRequest(
            f"There is currently another in-progress request using this Idempotency Key '{key}' "
            "(that probably means you submitted twice, and the other request is still going "
            "through). Please try again later.",
            code="idempotency_key_in_use",
            status=409,
        )
    stored = data.get("_idempotency", key)
    if stored and stored["created"] + RETENTION_SECONDS > data.clock.now():
        if stored["fingerprint"] != fingerprint:
            raise IdempotencyError(
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a "
                "different request."
            )
        return ApiResponse(stored["status"], stored["body"].encode(), replayed=True)
    data.in_flight.add(key)
    return Reservation(data, key, fingerprint)
