"""Triggers of an app that reject rows, with errors of every kind."""

from __future__ import annotations

RAISING = {
    "an error of its own": "RAISE 'the books are closed'",
    "a class of its own": "RAISE SQLSTATE 'AB123'",
    "nothing found": "RAISE SQLSTATE 'P0002'",
    "a missing table": "PERFORM FROM missing",
    "a cancellation": "RAISE SQLSTATE '57014'",
    "like an outage": "RAISE SQLSTATE '53300'",
    "a lock": "RAISE SQLSTATE '55P03'",
    "no privilege": "RAISE SQLSTATE '42501'",
    "a duplicate": "RAISE SQLSTATE '23505'",
}
"""What the trigger does, by what it looks like."""


def raising(table: str, how: str) -> str:
    """The statements for such a trigger, `odd`; or one that raises nothing and drops the row."""
    does = RAISING.get(how, "RETURN NULL")
    return f"""
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {does}; RETURN coalesce(NEW, OLD); END $$;
        CREATE TRIGGER odd BEFORE INSERT OR UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION odd()"""
