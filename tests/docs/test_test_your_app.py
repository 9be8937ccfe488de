"""docs/how-to/test-your-app.md: the page's files make a suite that passes."""

from __future__ import annotations

import pytest

from billhook.postgres.embedded import EmbeddedPostgres
from pages import block

pytest_plugins = ["pytester"]

PAGE = "docs/how-to/test-your-app.md"


@pytest.mark.full
def test_the_suite_of_the_page_passes(
    pytester: pytest.Pytester, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", postgres.dsn())
    pytester.makeconftest(block(PAGE, "python", "# conftest.py"))
    (pytester.path / "schema.sql").write_text(block(PAGE, "sql", "CREATE TABLE orders"))
    (pytester.path / "test_orders.py").write_text(block(PAGE, "python", "# test_orders.py"))
    # Without this project's plugins: an app only has pytest and Billhook.
    result = pytester.runpytest_subprocess("-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
