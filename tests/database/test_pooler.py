"""Behind a PgBouncer in transaction mode: clients share few sessions, each transaction may get
another one."""

from __future__ import annotations

from books import Books
from pooler import SESSIONS, Pooler
from stripe_events import customer, event


def test_more_clients_than_sessions_apply_events_behind_a_pooler(
    database_url: str, pooler: Pooler
) -> None:
    (database,) = Books(database_url).row("SELECT current_database()").values()
    books = Books(pooler.dsn(database))
    for run in range(2):  # the second finds the sessions that the first one used
        lanes = [
            [event("customer.created", customer(f"cus_{run}_{lane}_{n}")) for n in range(10)]
            for lane in range(SESSIONS + 2)
        ]
        answers = books.apply_at_once(lanes)
        assert {answer["processing_status"] for answer in answers} == {"processed"}
    assert books.row("SELECT count(*) AS n FROM payments.customers")["n"] == 2 * len(answers)
