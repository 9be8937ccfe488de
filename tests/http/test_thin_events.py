"""A destination that sends thin events or pings is told which kind Billhook needs. (Those about
usage are recorded: tests/usage/test_administration.py.)"""

from __future__ import annotations

from typing import Any

import pytest

from http_tokens import SIGNING_SECRET

THIN = {
    "id": "evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0",
    "object": "v2.core.event",
    "type": "v2.core.account_person.updated",
    "livemode": False,
    "created": "2026-09-17T06:20:52.246Z",
    "related_object": {
        "id": "person_test_1",
        "type": "v2.core.account_person",
        "url": "/v2/core/accounts/acct_1/persons/person_test_1",
    },
    "context": None,
}
PING = {
    "id": "evt_test_61R9Ijk8dKEYZcXeR",
    "object": "v2.core.event",
    "type": "v2.core.event_destination.ping",
    "created": "2026-09-17T06:20:52.246Z",
    "context": None,
}


@pytest.mark.parametrize(
    "event",
    [
        THIN,
        {**THIN, "object": "event", "type": "v2.core.account.updated"},
        {**THIN, "created": 1_790_000_000, "data": {"object": {"id": "x"}}},
        {"object": "v2.core.event"},
    ],
)
def test_a_thin_event_is_refused_with_the_kind_of_destination_to_use(
    api: Any, event: dict[str, Any]
) -> None:
    for _ in range(2):
        answer = api.deliver(event)
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
        assert "thin event" in answer.json()["message"]
        assert "Snapshot" in answer.json()["nextActions"]
    assert api.books.row("SELECT count(*) AS n FROM payments.webhook_events")["n"] == 0


def test_a_ping_is_acknowledged_and_ignored(api: Any) -> None:
    for _ in range(2):
        answer = api.deliver(PING)
        assert answer.status_code == 200
        assert answer.json()["handled"] is False
        assert answer.json()["event"]["processingStatus"] == "ignored"
    mentioned = {**THIN, "note": PING["type"]}
    assert api.deliver(mentioned).status_code == 400
    assert api.books.row("SELECT count(*) AS n FROM payments.webhook_events")["n"] == 0


def test_an_unsigned_thin_event_learns_nothing(api: Any) -> None:
    answer = api.deliver(THIN, secret="whsec_wrong")
    assert answer.status_code == 400
    assert "thin event" not in answer.text
    assert SIGNING_SECRET not in answer.text
