"""Who may change a subscription: the app's policies decide, and nothing is written to find out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest

import aside
import insforge
from api import Api
from billhook.access.policies import Owner, subscription_policies
from billhook.postgres import Database, Role
from billhook.postgres.migrate import migrate
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from subscribers import MINE, OTHER, POLICIES, Subscriber, price, subscribe

TABLE = "payments.stripe_subscriptions"
AS_USER = {"claims": {"sub": USER}}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("preview", {"quantity": 2}),
    ("change", {"quantity": 2}),
    ("cancel", {}),
    ("resume", {}),
    ("pause", {"behavior": "void"}),
]
MEMBERS = f"""
    CREATE TABLE team_members (team_id text, user_id text, role text);
    GRANT SELECT ON team_members TO authenticated;
    INSERT INTO team_members VALUES ('t_1', '{USER}', 'owner'), ('t_1', '{OTHER}', 'member');
    CREATE POLICY members ON {TABLE} FOR SELECT TO authenticated USING (
        subject_type = 'team' AND subject_id IN (
            SELECT team_id FROM team_members WHERE user_id = auth.jwt() ->> 'sub'));
    CREATE POLICY owners ON {TABLE} FOR UPDATE TO authenticated USING (
        subject_type = 'team' AND subject_id IN (
            SELECT team_id FROM team_members
            WHERE user_id = auth.jwt() ->> 'sub' AND role = 'owner'));
"""


@pytest.fixture
def mine(api: Api) -> Subscriber:
    return subscribe(api, price(api))


def states(subscriber: Subscriber) -> dict[str, Any]:
    """What an unwanted change would change."""
    return {
        name: subscriber.at_stripe()[name]
        for name in ("items", "cancel_at_period_end", "pause_collection")
    }


def test_without_a_policy_nobody_sees_or_changes_anything(mine: Subscriber) -> None:
    before = states(mine)
    for operation, body in REQUESTS:
        refused = mine.send(operation, **body)
        assert (refused.status_code, refused.json()["error"]) == (404, "PAYMENT_NOT_FOUND")
    assert states(mine) == before


def test_another_users_subscription_is_not_found(api: Api, mine: Subscriber) -> None:
    api.books.execute(POLICIES)
    before = states(mine)
    for operation, body in REQUESTS:
        assert mine.send(operation, token(OTHER), **body).status_code == 404
    assert states(mine) == before
    assert mine.send("cancel").status_code == 200


def test_one_that_a_user_sees_but_may_not_change_is_forbidden(api: Api) -> None:
    api.books.execute(MEMBERS)
    team = subscribe(api, price(api), subject={"type": "team", "id": "t_1"})
    before = states(team)
    for operation, body in REQUESTS:
        refused = team.send(operation, token(OTHER), **body)
        assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
        assert f"The RLS policies of {TABLE} do not allow this user" in refused.json()["message"]
    assert states(team) == before
    assert team.send("change", quantity=2).status_code == 200


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (lambda: None, "AUTH_INVALID_CREDENTIALS"),
        (lambda: ANONYMOUS_KEY, "AUTH_INVALID_CREDENTIALS"),
        (lambda: token(role="anon"), "AUTH_INVALID_CREDENTIALS"),
        (lambda: token(exp=1), "AUTH_UNAUTHORIZED"),
        (lambda: "ik_" + "0" * 48, "AUTH_INVALID_API_KEY"),
    ],
    ids=["none", "anonymous key", "anonymous token", "expired", "wrong key"],
)
def test_guests_and_strangers_are_turned_away(
    shared_api: Api, credential: Callable[[], str | None], code: str
) -> None:
    nobody = Subscriber(shared_api, "sub_1", "cus_1", credential())
    for operation, body in REQUESTS:
        refused = nobody.send(operation, **body)
        assert (refused.status_code, refused.json()["error"]) == (401, code)
        # Before the body is looked at.
        assert nobody.send(operation, nonsense=True).json() == refused.json()


def test_a_server_acts_for_a_user_with_exactly_their_rights(api: Api, mine: Subscriber) -> None:
    api.books.execute(POLICIES)
    for operation, body in REQUESTS:
        other = mine.send(operation, ADMIN_KEY, actAs={"claims": {"sub": OTHER}}, **body)
        assert other.status_code == 404
        guest = mine.send(operation, ADMIN_KEY, actAs={"role": "anon"}, **body)
        assert guest.status_code == 401
        for sender in (token(), token(role="project_admin")):
            refused = mine.send(operation, sender, actAs=AS_USER, **body)
            assert (refused.status_code, "Only an admin key" in refused.text) == (403, True)
    for operation, body in REQUESTS:
        assert mine.send(operation, ADMIN_KEY, actAs=AS_USER, **body).status_code == 200


def test_all_claims_of_the_token_count(api: Api, mine: Subscriber) -> None:
    api.books.execute(f"""
        CREATE POLICY seen ON {TABLE} FOR SELECT TO authenticated USING (true);
        CREATE POLICY strong ON {TABLE} FOR UPDATE TO authenticated
            USING (auth.jwt() ->> 'aal' = 'aal2')""")
    assert mine.send("cancel").status_code == 403
    assert mine.send("cancel", token(aal="aal2")).status_code == 200


def test_a_policy_sees_what_is_asked_for(api: Api, mine: Subscriber) -> None:
    cheap, dear = price(api, 100, lookup_key="cheap"), price(api, 9000)
    api.books.execute(f"""
        CREATE POLICY seen ON {TABLE} FOR SELECT TO authenticated USING (true);
        CREATE POLICY few ON {TABLE} FOR UPDATE TO authenticated USING (
            payments.requested_change() ->> 'operation' IN ('preview', 'change')
            AND coalesce(payments.requested_change() ->> 'priceId', '{cheap}') = '{cheap}'
            AND coalesce((payments.requested_change() ->> 'quantity')::integer, 1) <= 5)""")
    assert mine.send("change", lookupKey="cheap", quantity=5).status_code == 200
    assert mine.send("preview", quantity=5).status_code == 200
    for operation, body in (
        ("change", {"priceId": dear}),
        ("preview", {"priceId": dear}),
        ("change", {"quantity": 6}),
        ("cancel", {}),
        ("resume", {}),
        ("pause", {"behavior": "void"}),
    ):
        assert mine.send(operation, **body).status_code == 403, operation


@pytest.mark.parametrize("owner", ["user", "team"])
def test_the_policies_that_doctor_shows_let_owners_do_all_but_pause(api: Api, owner: Owner) -> None:
    subject = MINE if owner == "user" else {"type": "team", "id": "1"}
    api.books.execute(f"""
        CREATE TABLE team_members (team_id bigint, user_id uuid, role text);
        GRANT SELECT ON team_members TO authenticated;
        INSERT INTO team_members VALUES (1, '{USER}', 'owner'), (1, '{OTHER}', 'member');
        {subscription_policies(owner)}""")
    mine = subscribe(api, price(api), subject=subject)
    for operation, body in REQUESTS:
        wanted = 403 if operation == "pause" else 200
        assert mine.send(operation, **body).status_code == wanted
        assert mine.send(operation, token(OTHER), **body).status_code == 404


def test_a_browser_does_not_choose_to_pay_nothing_for_the_rest_of_the_period(
    api: Api, mine: Subscriber
) -> None:
    api.books.execute(POLICIES)
    dear = price(api, 9000)
    free = {"priceId": dear, "prorationBehavior": "none"}
    for operation in ("change", "preview"):
        refused = mine.send(operation, **free)
        assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
        assert "prorationBehavior none" in refused.json()["message"]
        late = mine.at_stripe()["items"]["data"][0]["current_period_end"] - 60
        for at in (late, late - 40 * 86_400):
            moment = datetime.fromtimestamp(at, UTC).isoformat()
            refused = mine.send(operation, priceId=dear, prorationDate=moment)
            assert refused.status_code == 400
            assert refused.json()["message"].startswith("prorationDate: is not of a preview")
    assert mine.send("change", ADMIN_KEY, actAs=AS_USER, **free).status_code == 200


def test_where_row_level_security_is_off_no_user_changes_anything(
    api: Api, mine: Subscriber
) -> None:
    api.books.execute(f"{POLICIES}; ALTER TABLE {TABLE} DISABLE ROW LEVEL SECURITY")
    for operation, body in REQUESTS:
        refused = mine.send(operation, **body)
        assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
        assert refused.json()["message"].startswith(f"Row-level security is off on {TABLE}")
    assert mine.send("cancel", ADMIN_KEY).status_code == 200


def test_a_missing_privilege_and_a_broken_policy_are_told(api: Api, mine: Subscriber) -> None:
    api.books.execute(f"""
        CREATE POLICY broken ON {TABLE} TO authenticated USING (auth.uid() IS NOT NULL);
        """)
    odd = mine.send("cancel", token("not-a-uuid"))
    assert (odd.status_code, odd.json()["error"]) == (400, "DATABASE_VALIDATION_ERROR")
    assert "auth.jwt()" in odd.json()["nextActions"]
    api.books.execute(f"REVOKE UPDATE (updated_at) ON {TABLE} FROM authenticated")
    refused = mine.send("cancel")
    assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert "permission denied" in refused.json()["message"]


def test_the_check_writes_nothing_fires_nothing_and_waits_for_nobody(
    api: Api, mine: Subscriber
) -> None:
    """An event that updates the row may take as long as the app's triggers do."""
    api.books.execute(f"""
        CREATE POLICY seen ON {TABLE} FOR SELECT TO authenticated USING (true);
        CREATE POLICY nobody ON {TABLE} FOR UPDATE TO authenticated USING (status = 'none');
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'a trigger has fired'; END $$;
        CREATE TRIGGER rows BEFORE INSERT OR UPDATE OR DELETE ON {TABLE}
            FOR EACH ROW EXECUTE FUNCTION tell();
        CREATE TRIGGER statements BEFORE INSERT OR UPDATE OR DELETE ON {TABLE}
            FOR EACH STATEMENT EXECUTE FUNCTION tell()""")

    async def while_an_event_is_applied() -> int:
        connection = await asyncpg.connect(api.books.dsn, statement_cache_size=0)
        try:
            async with connection.transaction():
                # What an UPDATE of columns that are in no key locks.
                await connection.execute(f"SELECT FROM {TABLE} FOR NO KEY UPDATE")
                answer = await asyncio.to_thread(mine.send, "cancel")
                return answer.status_code
        finally:
            await connection.close()

    assert aside.run(while_an_event_is_applied()) == 403


# With SQL of their own, such as through PostgREST.


def as_role(books: Books, role: Role, statement: str) -> list[asyncpg.Record]:
    async def work(database: Database) -> list[asyncpg.Record]:
        async with database.as_caller(role, {"sub": USER, "role": role}) as connection:
            return await connection.fetch(statement)

    return books.run(work)


def test_users_read_what_policies_show_and_write_nothing(api: Api, mine: Subscriber) -> None:
    read = f"SELECT subscription_id FROM {TABLE}"
    assert as_role(api.books, "authenticated", read) == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        as_role(api.books, "anon", read)
    api.books.execute(POLICIES)
    ((found,),) = as_role(api.books, "authenticated", read)
    assert found == mine.id
    before = api.books.row(f"SELECT * FROM {TABLE}")
    api.books.execute(f"GRANT ALL ON {TABLE} TO authenticated")
    for statement in (
        f"UPDATE {TABLE} SET updated_at = now()",
        f"UPDATE {TABLE} SET status = 'active', subject_id = 'x'",
        f"UPDATE {TABLE} SET updated_at = updated_at WHERE subscription_id = '{mine.id}'",
        f"""INSERT INTO {TABLE} SELECT * FROM {TABLE}
            ON CONFLICT (id) DO UPDATE SET updated_at = now()""",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            as_role(api.books, "authenticated", statement)
    assert as_role(api.books, "authenticated", f"DELETE FROM {TABLE} RETURNING 1") == []
    assert api.books.row(f"SELECT * FROM {TABLE}") == before


def test_a_forged_request_changes_nothing_either(api: Api, mine: Subscriber) -> None:
    """A caller with SQL access can claim a request by Billhook, and gets no more than a lock."""
    api.books.execute(subscription_policies())

    async def work(database: Database) -> None:
        claims = {"sub": USER, "role": "authenticated"}
        async with database.as_caller("authenticated", claims) as connection:
            request = orjson.dumps({"operation": "change"}).decode()
            told = "SELECT set_config('billhook.requested_change', $1, true)"
            await connection.execute(told, request)
            assert await connection.fetch(f"SELECT FROM {TABLE} FOR KEY SHARE")
            await connection.execute(f"UPDATE {TABLE} SET updated_at = now()")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        api.books.run(work)


# Who else reads the table.


def test_all_others_read_as_before(template: str, empty_database_url: str) -> None:
    """`template`: its migration made the roles."""
    owner = "reporting_of_the_tests"
    empty = Books(empty_database_url)
    insforge.make_payments(empty)
    empty.execute(f"""
        DO $$ BEGIN CREATE ROLE {owner} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE SCHEMA reports AUTHORIZATION {owner};
        GRANT USAGE ON SCHEMA payments TO {owner}, project_admin;
        GRANT SELECT ON {TABLE}, payments.stripe_subscription_items TO {owner}, project_admin;
        GRANT {owner} TO CURRENT_USER;
        SET ROLE {owner};
        CREATE VIEW reports.active AS SELECT subscription_id FROM {TABLE};
        GRANT USAGE ON SCHEMA reports TO authenticated;
        GRANT SELECT ON reports.active TO authenticated;
        RESET ROLE;
        INSERT INTO {TABLE} (environment, subscription_id, customer_id, status)
        VALUES ('test', 'sub_1', 'cus_1', 'active');
        INSERT INTO payments.stripe_subscription_items (
            environment, subscription_item_id, subscription_id)
        VALUES ('test', 'si_1', 'sub_1')""")
    asyncio.run(migrate(empty_database_url))
    try:
        later = f"{owner}_later"
        empty.execute(f"""
            DO $$ BEGIN CREATE ROLE {later} NOLOGIN;
            EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            GRANT USAGE ON SCHEMA payments TO {later};
            GRANT SELECT ON {TABLE} TO {later}""")
        for role in (owner, later, "project_admin"):
            count = f"SET LOCAL ROLE {role}; SELECT count(*) AS n FROM {TABLE}"
            assert _last(empty, count) == 1, role
        for role in (owner, "project_admin"):
            items = (
                f"SET LOCAL ROLE {role}; SELECT count(*) FROM payments.stripe_subscription_items"
            )
            assert _last(empty, items) == 1, role
        through_a_view = "SET LOCAL ROLE authenticated; SELECT count(*) FROM reports.active"
        assert _last(empty, through_a_view) == 1
        itself = f"SET LOCAL ROLE authenticated; SELECT count(*) FROM {TABLE}"
        assert _last(empty, itself) == 0
    finally:
        empty.execute(f"DROP OWNED BY {owner}, {owner}_later; DROP ROLE {owner}, {owner}_later")


def _last(books: Books, script: str) -> int:
    *before, query = script.split("; ")

    async def work(database: Database) -> int:
        async with database.as_service() as connection:
            for statement in before:
                await connection.execute(statement)
            return int(await connection.fetchval(query))

    return books.run(work)


def test_an_apps_own_row_level_security_stays_as_it_is(
    template: str, empty_database_url: str
) -> None:
    empty = Books(empty_database_url)
    insforge.make_payments(empty)
    empty.execute(
        f"""
        GRANT USAGE ON SCHEMA payments TO project_admin, authenticated;
        GRANT SELECT ON {TABLE} TO project_admin;
        ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY theirs ON {TABLE} TO authenticated USING (subject_id = auth_sub());
        """.replace("auth_sub()", "current_setting('request.jwt.claims', true)::jsonb ->> 'sub'")
    )
    for user in (USER, OTHER):
        empty.execute(f"""
            INSERT INTO {TABLE} (environment, subscription_id, customer_id, status, subject_id)
            VALUES ('test', 'sub_{user}', 'cus_{user}', 'active', '{user}')""")
    asyncio.run(migrate(empty_database_url))
    found = as_role(empty, "authenticated", f"SELECT subject_id FROM {TABLE}")
    assert [row["subject_id"] for row in found] == [USER]
    # They had shown it nothing.
    assert as_role(empty, "project_admin", f"SELECT FROM {TABLE}") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        as_role(empty, "authenticated", f"UPDATE {TABLE} SET updated_at = now()")


def test_forced_row_level_security_does_not_stop_billhook(api: Api) -> None:
    api.books.execute(f"""
        {POLICIES}; ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY;
        CREATE POLICY billhook_service ON {TABLE} TO CURRENT_USER
            USING (true) WITH CHECK (true)""")
    mine = subscribe(api, price(api))
    assert mine.changed("change", quantity=2)["items"][0]["quantity"] == 2
