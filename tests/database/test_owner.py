"""Billhook with the role that docs/how-to/database-roles.md describes, and nothing more."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from billhook.doctor import database as in_database
from billhook.doctor.finding import Finding
from billhook.ledger import EventNotApplied
from billhook.postgres import Database
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import migrate
from books import Books
from pages import app_sql
from strangers import as_user
from stripe_events import event, session

PAGE = Path(__file__).parents[2] / "docs/how-to/database-roles.md"
ADA = "11111111-1111-4111-8111-111111111111"
# A checkout of a team's owner.
CHECKOUT = f"""
    SELECT set_config('request.jwt.claims', '{{{{"sub": "{ADA}"}}}}', true),
        set_config('role', 'authenticated', true);
    INSERT INTO payments.stripe_checkout_sessions (environment, mode, subject_type, subject_id,
        success_url, cancel_url, line_items)
    VALUES ('test', '{{mode}}', 'team', '{{team}}', 'https://a.example', 'https://a.example', '[]')
"""


async def opened(database: Database) -> list[Finding]:
    return [each async for each in in_database.opened(database)]


def assert_team_owners_only(owner: Books, app: Books) -> None:
    """The policies of the page work with the rights of their owners."""
    app.execute(f"INSERT INTO public.team_members VALUES ('theirs', '{ADA}', 'owner')")
    owner.execute(CHECKOUT.format(mode="payment", team="theirs"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        owner.execute(CHECKOUT.format(mode="payment", team="another"))
    owner.execute(CHECKOUT.format(mode="subscription", team="theirs"))


def documented() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_a_role_without_special_rights_migrates_and_fulfills_an_apps_orders(
    postgres: EmbeddedPostgres, books: Books, empty_database_url: str
) -> None:
    """`books`: the cluster has the three roles by then, as a host has that prepares them."""
    name = urlsplit(empty_database_url).path.removeprefix("/")
    direct = postgres.dsn(name)
    admin = Books(direct)
    prepare, let_app_in, no_triggers = documented()
    assert "GRANT CREATE ON DATABASE app TO billhook" in prepare
    prepare = re.sub(r"CREATE ROLE (?!billhook).*", "", prepare)
    try:
        admin.execute(prepare.replace("DATABASE app", f'DATABASE "{name}"'))
        admin.execute("CREATE ROLE app_owner LOGIN; GRANT CREATE ON SCHEMA public TO app_owner")
        owner, app = Books(as_user(direct, "billhook")), Books(as_user(direct, "app_owner"))
        asyncio.run(migrate(owner.dsn))
        owner.execute(let_app_in)
        for tables in app_sql()[:-1]:
            app.execute(tables)
        app.execute("INSERT INTO orders VALUES ('o', 'test', 1500, 'eur')")
        bought = session("cs_1", metadata={"order_id": "o"})
        (row,) = owner.apply(event("checkout.session.completed", bought))
        assert row["processing_status"] == "processed"
        assert app.row("SELECT status FROM orders") == {"status": "paid"}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            owner.execute("UPDATE orders SET status = 'pending'")
        for theirs in ("system.secrets", "billhook.api_keys", "payments.transactions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                app.execute(f"SELECT FROM {theirs}")
        owner.execute(app_sql()[-1])
        found = owner.run(opened)
        assert [each.state for each in found] == ["ok"]
        assert_team_owners_only(owner, app)
        owner.execute(no_triggers)
        may = "SELECT has_table_privilege('project_admin', 'payments.customers', 'TRIGGER') AS it"
        assert owner.row(may) == {"it": False}
    finally:
        for role in ("app_owner", "billhook"):
            admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE IF EXISTS {role}")


def test_an_apps_failing_trigger_is_no_way_past_its_role(books: Books) -> None:
    """A trigger without SECURITY DEFINER runs as Billhook's role: that is what TRIGGER means."""
    books.execute("""
        CREATE FUNCTION public.who() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
        GRANT CREATE ON SCHEMA public TO project_admin;
        SET ROLE project_admin;
        CREATE TRIGGER who AFTER UPDATE ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION public.who()""")
    (answer,) = books.apply(event("checkout.session.completed", session()))
    assert isinstance(answer, EventNotApplied)
    assert "ran as postgres" in answer.message
