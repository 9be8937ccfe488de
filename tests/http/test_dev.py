"""`billhook dev --no-demo`: a database to develop an app in."""

from __future__ import annotations

import sys

import httpx
import pytest

from reader import reading

_IN_PUBLIC = """
python - <<'END'
import asyncio, os, asyncpg

async def work():
    database = await asyncpg.connect(os.environ["DATABASE_URL"])
    await database.execute("CREATE TABLE orders ()")
    print(await database.fetchval("SELECT 'public.orders'::regclass"))
    await database.execute("CREATE DATABASE of_a_test")
    print(await database.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'demo'"))
    await database.close()

asyncio.run(work())
END
"""


@pytest.mark.full
def test_the_database_belongs_to_the_app() -> None:
    with reading() as reader:
        reader.serve("billhook dev --no-demo")
        reader.run(f". .venv/bin/activate\n. .billhook/env\n{_IN_PUBLIC}")
        assert reader.said == "orders\n0\n"
        said = reader.log.read_text()
        assert "Demo shop" not in said
        # The tests' own virtual environment is elsewhere.
        assert f"in another terminal: . {sys.prefix}/bin/activate && billhook doctor\n" in said
        reader.run('printf %s "$BILLHOOK_URL"')
        assert httpx.get(f"{reader.said}/demo/").status_code == 404
        assert httpx.get(f"{reader.said}/dashboard/sign-in").status_code == 200
