"""`make reference`: write the generated parts of the reference."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from billhook.postgres.embedded import UNSAFE_BUT_FAST, start
from billhook.postgres.migrate import migrate
from generate import pages, rendered
from generate.tables import read


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="billhook-docs-") as folder:
        server = start(Path(folder) / "postgres", settings=UNSAFE_BUT_FAST)
        try:
            dsn = server.create_database("docs")
            asyncio.run(migrate(dsn))
            schema = asyncio.run(read(dsn))
        finally:
            server.stop()
    for page in pages():
        page.write_text(rendered(page, schema))


main()
