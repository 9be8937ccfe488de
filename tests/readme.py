"""The README's SQL, so that tests run what readers paste."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def sql_blocks() -> list[str]:
    """Every SQL block, in order."""
    return re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
