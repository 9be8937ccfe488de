"""The API is what it says it is: schemathesis sends what the description allows, and what not."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from billhook.access.secrets import SecretStore, webhook_secret_name
from billhook.app import create_app
from billhook.settings import Settings
from depth import by_depth
from http_tokens import ADMIN_KEY, JWT_SECRET, SIGNING_SECRET, token

# The description needs no database; the requests go to the running `api`.
UNOPENED = Settings(
    database_url=SecretStr("postgresql://"), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
)
schema = schemathesis.openapi.from_dict(create_app(UNOPENED).openapi())


@pytest.fixture(scope="module")
def configured(shared_api: Any) -> Any:
    """The API with a signing secret for live mode too: without one, 500 is the right answer."""
    shared_api.books.run(
        lambda database: SecretStore(database, UNOPENED).set(
            webhook_secret_name("live"), SIGNING_SECRET
        )
    )
    return shared_api


@schema.parametrize()
@settings(max_examples=by_depth(5, 60, 60), deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_whatsoever_breaks_the_server_or_the_description(
    case: Any, configured: Any
) -> None:
    """Prices, customers and signatures that Stripe does not know are refused although they fit."""
    case.call_and_validate(
        base_url=configured.url,
        headers={"Authorization": f"Bearer {ADMIN_KEY if is_admin(case) else token()}"},
        timeout=120,  # a verification may take a minute
        additional_checks=[not_a_server_error],
        # The second counts parameters that it then does not send, and the header that we add.
        excluded_checks=[positive_data_acceptance, negative_data_rejection],
    )


def is_admin(case: Any) -> bool:
    return "-sessions" not in case.path
