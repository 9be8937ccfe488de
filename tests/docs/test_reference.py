"""What is generated in docs/ is up to date and complete. `make reference` writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import aside
import generate
from billhook.projections import TYPES
from billhook.settings import Settings
from generate import events, routes, tables
from generate.tables import Table


@pytest.fixture(scope="module")
def schema(shared_database_url: str) -> list[Table]:
    return aside.run(tables.read(shared_database_url))


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.stem)
def test_the_page_is_up_to_date(page: Path, schema: list[Table]) -> None:
    assert page.read_text() == generate.rendered(page, schema), "run `make reference`"


def test_each_page_with_generated_parts_is_found() -> None:
    pages = {page.stem for page in generate.pages()}
    assert pages == {
        "alerts",
        "cli",
        "deploy",
        "errors",
        "events",
        "http-api",
        "settings",
        "tables",
    }


def test_every_setting_has_a_meaning_and_is_listed_once() -> None:
    page = (generate.REFERENCE / "settings.md").read_text()
    listed = " ".join(re.findall(r"<!-- generated: settings (.*?) -->", page)).split()
    assert sorted(listed) == sorted(str(each.alias) for each in Settings.model_fields.values())
    assert all(each.description for each in Settings.model_fields.values())


def test_no_meaning_is_left_of_a_column_that_is_gone(schema: list[Table]) -> None:
    texts = tables.meanings()
    columns = {table.name: {each.name for each in table.columns} for table in schema}
    for name, table in texts["tables"].items():
        assert set(table.get("columns", {})) <= columns[name], name
    assert set(texts["columns"]) <= set().union(*columns.values())


def test_every_model_that_a_route_refers_to_is_described() -> None:
    document = routes.document()
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named <= set(document["components"]["schemas"])


def test_every_type_of_event_is_described_and_changes_a_table() -> None:
    texts = events.meanings()
    assert texts["effects"].keys() == TYPES
    page = (generate.REFERENCE / "events.md").read_text()
    assert all(page.count(f"\n| `{each}` |") == 1 for each in TYPES)
    assert all(events.changed_by(each) for each in TYPES)
