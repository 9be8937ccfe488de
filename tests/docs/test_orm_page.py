"""docs/how-to/orm.md: its models read what Billhook has written."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import update
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from books import Books
from pages import block
from strangers import as_user
from stripe_events import customer, event, subscription

PAGE = "docs/how-to/orm.md"
TEAM = {"insforge_subject_type": "team", "insforge_subject_id": "t1", "plan": "pro"}


@pytest.fixture
def mirrored(direct_database_url: str) -> Books:
    """Two live subscriptions of a team: one active, with its customer, and one canceled."""
    books = Books(direct_database_url)
    live = {"livemode": True}
    books.apply(
        event("customer.created", customer("cus_1", email="ada@example.com"), at=1, **live),
        *(
            event(
                "customer.subscription.created",
                subscription(name, status=status, customer="cus_1", metadata=TEAM),
                at=2,
                **live,
            )
            for name, status in (("sub_1", "active"), ("sub_2", "canceled"))
        ),
    )
    return books


@pytest.fixture
def billing(mirrored: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's module."""
    (tmp_path / "billing.py").write_text(block(PAGE, "python", "# billing.py"))
    monkeypatch.setenv("DATABASE_URL", mirrored.dsn)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("billing")
    yield module
    module.engine.dispose()
    del sys.modules["billing"]


def test_sqlalchemy_reads_and_does_not_write(billing: Any) -> None:
    (found,) = billing.subscriptions_of("t1")
    assert (found.subscription_id, found.details["plan"]) == ("sub_1", "pro")
    assert found.current_period_end.tzinfo is not None
    with Session(billing.reading) as session:
        again = session.get(billing.Subscription, found.id)
        assert again.customer.email == "ada@example.com"
    with Session(billing.reading) as session, pytest.raises(InternalError, match="read-only"):
        session.execute(update(billing.Customer).values(email=None))


def test_django_reads_with_a_user_that_may_only_read(mirrored: Books, tmp_path: Path) -> None:
    (tmp_path / "billing").mkdir()
    (tmp_path / "billing/__init__.py").touch()
    (tmp_path / "billing/models.py").write_text(block(PAGE, "python", "# billing/models.py"))
    (tmp_path / "query.py").write_text(
        "import django\ndjango.setup()\n" + block(PAGE, "python", "# anywhere")
    )
    reader = f"app_owner_{uuid4().hex}"
    mirrored.execute(f"CREATE ROLE {reader} LOGIN")
    try:
        mirrored.execute(block(PAGE, "sql", "GRANT USAGE").replace("app_owner", reader))
        (tmp_path / "settings.py").write_text(settings(as_user(mirrored.dsn, reader)))
        printed = run(tmp_path, "query.py")
        assert printed.startswith("t1 ada@example.com {")
        assert "'plan': 'pro'" in printed
        run(tmp_path, "-m", "django", "check", "--fail-level", "WARNING")
        run(tmp_path, "-m", "django", "makemigrations", "billing")
        planned = run(tmp_path, "-m", "django", "sqlmigrate", "billing", "0001")
        assert "CREATE TABLE" not in planned
    finally:
        mirrored.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def settings(dsn: str) -> str:
    found = conninfo_to_dict(dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "USER": found["user"],
        "HOST": found["host"],
        "NAME": found["dbname"],
    }
    return (
        f"DATABASES = {{'default': {database}}}\n"
        "INSTALLED_APPS = ['billing']\nSECRET_KEY = 'tests'\nUSE_TZ = True\n"
    )


def run(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(folder),
            "DJANGO_SETTINGS_MODULE": "settings",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
