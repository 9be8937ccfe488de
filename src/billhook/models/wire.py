"""What all models of the wire contract are made of (contract section 1).

camelCase outside, snake_case inside. Requests are strict: unknown keys, wrong types and values
that PostgreSQL or a browser must never see are refused, each with its path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError, Url

from billhook.errors import InvalidInput
from billhook.redact import shorten

# What JavaScript's String.trim takes away; Python's str.strip takes others.
_JS_SPACE = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
# A link with one of these runs code or opens a local file in the buyer's browser.
_DANGEROUS_SCHEMES = frozenset({"javascript", "data", "vbscript", "file"})
# The form of address that InsForge's clients know (zod's): pydantic's own check also asks whether
# the domain is a special-use one, and refuses `.test`.
_EMAIL = re.compile(
    r"(?!\.)(?!.*\.\.)[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@"
    r"(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,}"
)
RESERVED_METADATA = "insforge_"
"""Metadata keys that begin so are Billhook's own."""

# Stripe's limits (stripe-facts 3). Whatever a request brings is bounded: it is stored, logged and
# sent on.
MOST_METADATA_KEYS = 50
_LONGEST_URL = 5000
_LONGEST_EMAIL = 512
# No request of ours has half as many: what follows is not looked at one by one.
_MOST_FIELDS = 50
_MOST_PROBLEMS = 20
_LONGEST_PATH = 200


def _trim(value: object) -> object:
    return value.strip(_JS_SPACE) if isinstance(value, str) else value


def _refuse_nul(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    return value


def without_null(schema: dict[str, Any]) -> None:
    """The JSON Schema of a field that may be absent but not null; `Request` checks that."""
    (present,) = (s for s in schema.pop("anyOf") if s != {"type": "null"})
    schema.update(present)
    del schema["default"]


def _check_url(value: str) -> str:
    """The text itself is kept: Stripe's `{CHECKOUT_SESSION_ID}` must not come back encoded."""
    try:
        url = Url(value)
    except ValidationError as error:
        raise PydanticCustomError("url", "must be a URL") from error
    # The parser has dropped what a browser would drop: leading control characters, line breaks
    # inside the scheme, upper case.
    if url.scheme in _DANGEROUS_SCHEMES:
        raise PydanticCustomError("url_scheme", f"must not be a {url.scheme}: address")
    return value


def _check_email(value: str) -> str:
    if _EMAIL.fullmatch(value) is None:
        raise PydanticCustomError("email", "must be an email address")
    return value


def _not_too_many_keys(value: object) -> object:
    """Checked before the keys themselves are."""
    if isinstance(value, dict) and len(value) > MOST_METADATA_KEYS:
        raise PydanticCustomError(
            "too_many_keys", "must have at most {most} keys", {"most": MOST_METADATA_KEYS}
        )
    return value


def _refuse_brackets(value: str) -> str:
    if "[" in value or "]" in value:
        raise PydanticCustomError("brackets", "must not contain square brackets")
    return value


def _check_metadata(value: dict[str, str]) -> dict[str, str]:
    for key in value:
        if key.startswith(RESERVED_METADATA):
            raise PydanticCustomError(
                "reserved", "keys beginning with insforge_ are reserved (got {key})", {"key": key}
            )
    return value


# Constraints stand before these two in each annotation, so that the trimmed text is measured.
TRIM = BeforeValidator(_trim)
NO_NUL = AfterValidator(_refuse_nul)

Id = Annotated[str, StringConstraints(min_length=1, max_length=255), TRIM, NO_NUL]
"""An id of Stripe's, which has at most 255 characters."""
LookupKey = Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL]
"""A price's name, which stays when another price takes its place."""
Address = Annotated[
    str,
    StringConstraints(max_length=_LONGEST_URL),
    TRIM,
    NO_NUL,
    AfterValidator(_check_url),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": _LONGEST_URL}),
]
Email = Annotated[
    str,
    StringConstraints(max_length=_LONGEST_EMAIL),
    TRIM,
    NO_NUL,
    AfterValidator(_check_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": _LONGEST_EMAIL}),
]
_MetadataKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    NO_NUL,
    AfterValidator(_refuse_brackets),
    Field(json_schema_extra={"pattern": r"^[^\[\]]*$"}),
]
_MetadataValue = Annotated[str, StringConstraints(max_length=500), NO_NUL]
PlainMetadata = Annotated[
    dict[_MetadataKey, _MetadataValue],
    BeforeValidator(_not_too_many_keys),
    Field(json_schema_extra={"maxProperties": MOST_METADATA_KEYS}),
]
"""Metadata as Stripe takes it."""
Metadata = Annotated[PlainMetadata, AfterValidator(_check_metadata)]
"""Metadata beside which Billhook puts its own."""


def leave_room(metadata: dict[str, str] | None, ours: int) -> None:
    """Refuse metadata that leaves no room for our keys: Stripe counts them together."""
    most = MOST_METADATA_KEYS - ours
    if metadata is not None and len(metadata) > most:
        raise PydanticCustomError(
            "too_many_keys",
            "must have at most {most} keys: Stripe allows {all}, and Billhook adds {ours}",
            {"path": "metadata", "most": most, "all": MOST_METADATA_KEYS, "ours": ours},
        )


def request_hash(request: object) -> str:
    """SHA-256 of a request in canonical form."""
    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def iso(moment: datetime) -> str:
    """A time as the contract writes it: UTC, milliseconds, `Z`."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class WireModel(BaseModel):
    """Anything that goes over the wire."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    def wire(self) -> bytes:
        """The JSON body of this object."""
        return self.model_dump_json(by_alias=True).encode()


class Request(WireModel):
    """A request body: strict types, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", strict=True, validate_by_name=False, validate_by_alias=True, frozen=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _absent_but_not_null(cls, value: object, field: ValidationInfo) -> object:
        of_field = cls.model_fields[field.field_name or ""]
        if value is None and of_field.json_schema_extra is without_null:
            raise PydanticCustomError("null", "must not be null; omit it instead")
        return value

    @model_validator(mode="before")
    @classmethod
    def _not_too_many_fields(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            raise PydanticCustomError("too_many_fields", "has too many fields")
        return value


class Health(WireModel):
    """The 200 response of the health route."""

    status: Literal["ok"]
    service: str
    version: str
    timestamp: Timestamp


class ExistingPurchase(WireModel):
    """What a subject already has, if it may have only one subscription."""

    subscription_id: str | None = Field(None, json_schema_extra=without_null)
    checkout_session_id: str | None = Field(
        None, json_schema_extra=without_null, description="Stripe's id of an open checkout."
    )
    url: str | None = Field(
        None,
        json_schema_extra=without_null,
        description="Of the open checkout, if the caller may read its row.",
    )
    client_secret: str | None = Field(None, json_schema_extra=without_null)
    portal_url: str | None = Field(
        None,
        json_schema_extra=without_null,
        description="The customer portal, if the caller may open it.",
    )

    def known(self) -> dict[str, Any]:
        """What there is, as JSON."""
        return self.model_dump(by_alias=True, exclude_none=True)


class ErrorBody(WireModel):
    """The body of every error response (contract section 1)."""

    error: Annotated[str, Field(description="A machine-readable code.", examples=["INVALID_INPUT"])]
    message: Annotated[
        str, Field(description="A human-readable message. It never contains secrets.")
    ]
    status_code: int
    next_actions: str | None = Field(
        None, json_schema_extra=without_null, description="What to do next."
    )
    decline_code: str | None = Field(
        None,
        json_schema_extra=without_null,
        description="Of a declined charge: the bank's reason, such as `insufficient_funds`.",
    )
    payment_intent_id: str | None = Field(
        None, json_schema_extra=without_null, description="Of a declined charge."
    )
    existing: ExistingPurchase | None = Field(
        None,
        json_schema_extra=without_null,
        description="With a 409 of a checkout: what the subject already has.",
    )


R = TypeVar("R", bound=Request)


def parse(model: type[R], body: object) -> R:
    """Validate a decoded JSON body.

    Raises:
        InvalidInput: lists each problem as `path: message`, joined by `, ` (contract section 1).
    """
    if not isinstance(body, dict):
        raise InvalidInput("body: must be a JSON object")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidInput(problems(found)) from None


def problems(found: Sequence[ErrorDetails]) -> str:
    """pydantic's findings as the contract writes them: `path: message`, joined by `, `. After so
    many it is enough."""
    named = [_problem(each) for each in found[:_MOST_PROBLEMS]]
    more = [f"and {len(found) - len(named)} more"] if len(found) > len(named) else []
    return ", ".join(named + more)


_WORDING = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "bool_type": "must be true or false",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}

# pydantic says "Input should be…", "String should have…": here the path is the subject.
_SUBJECT = re.compile(r"^\w+ should ")


def _problem(problem: ErrorDetails) -> str:
    context: dict[str, Any] = problem.get("ctx", {})
    path = ".".join(str(step) for step in problem["loc"] if step != "[key]")
    path = shorten(context.get("path", path), _LONGEST_PATH) or "body"
    message = _WORDING.get(problem["type"]) or _SUBJECT.sub("must ", problem["msg"])
    # The path may quote a key of the caller's; a NUL in it would not survive a log or a row.
    return f"{path}: {message}".replace("\0", "\\0")
