"""Rules are Python and mechanical SQL is generated, so little PL/pgSQL is written by hand (decision
11)."""

from __future__ import annotations

import re
from pathlib import Path

import billhook.postgres

FILES = sorted(Path(billhook.postgres.__file__).parent.glob("*/*.sql"))
GENERATED = "generated.sql"
MOST = 300
"""Lines of PL/pgSQL, with those that are empty or comments."""

# Functions from their first line to their last, and blocks. The bodies are quoted by `$$`.
FUNCTION = re.compile(r"^[ ]*CREATE (?:OR REPLACE )?FUNCTION .*?\$\$.*?\$\$;", re.M | re.S)
BLOCK = re.compile(r"^DO \$\$.*?^END \$\$;", re.M | re.S)
STARTS = re.compile(r"LANGUAGE plpgsql|^\s*DO\b", re.M | re.I)


def plpgsql_in(text: str) -> list[str]:
    """The functions and blocks of PL/pgSQL in a file."""
    blocks = BLOCK.findall(text)
    functions = FUNCTION.findall(BLOCK.sub("", text))
    return [each for each in functions if "LANGUAGE plpgsql" in each] + blocks


def lines(text: str) -> int:
    return sum(len(each.splitlines()) for each in plpgsql_in(text))


def test_little_plpgsql_is_written_by_hand() -> None:
    found = {each.name: lines(each.read_text()) for each in FILES if each.name != GENERATED}
    assert 0 < sum(found.values()) < MOST, found


def test_every_function_and_block_is_counted() -> None:
    for file in FILES:
        text = file.read_text()
        without_comments = re.sub(r"--.*", "", text)
        starts = len(STARTS.findall(without_comments))
        # `DO UPDATE` and `DO NOTHING` belong to statements.
        starts -= len(re.findall(r"^\s*DO (?:UPDATE|NOTHING)\b", without_comments, re.M))
        assert len(plpgsql_in(text)) == starts, file.name
