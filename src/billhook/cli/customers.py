"""`billhook customers`: customers and their total spend, and the subjects that they pay for."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from billhook.cli.address import connected
from billhook.cli.asking import confirm
from billhook.cli.options import (
    All,
    AsJson,
    CustomerOption,
    InEnvironment,
    Limit,
    StartingAfter,
    Url,
    Yes,
)
from billhook.cli.output import gather, nothing, show_json, show_json_lines, show_table
from billhook.errors import SettingsError
from billhook.money import money

if TYPE_CHECKING:
    from billhook.client import Client
    from billhook.client.inputs import AssignmentInput
    from billhook.settings import Environment

app = typer.Typer(help="Customers, and the subjects that they pay for.")

_AT_ONCE = 1000
_MEANING = {
    "assigned": "assigned",
    "unchanged": "already mapped to that subject",
    "conflict": "skipped: the customer or the subject is mapped to another one (--overwrite)",
    "ambiguous": "skipped: several customers have the email address",
    "unknown": "skipped: no customer has the id or email address",
}


@app.callback(
    invoke_without_command=True, epilog="Example: billhook customers --email ada@example.com"
)
def customers(
    context: typer.Context,
    email: Annotated[
        str | None, typer.Option(help="Only customers with this email address.")
    ] = None,
    customer: CustomerOption = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List customers, sorted by email address, with their total spend."""
    if context.invoked_subcommand is not None:
        return
    from billhook.models import Customers

    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.customers.page(
                environment, limit=size, starting_after=cursor, email=email, customer=customer
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(Customers(customers=found))
        return
    show_table(
        ["customer", "email", "name", "payments", "spent", "last payment", "payment method"],
        (
            [
                c.provider_customer_id,
                c.email,
                f"{c.name or ''} (deleted)".strip() if c.deleted else c.name,
                c.payments_count,
                money(c.total_spend, c.total_spend_currency),
                c.last_payment_at,
                c.payment_method_last4
                and f"{c.payment_method_brand or ''} {c.payment_method_last4}".strip(),
            ]
            for c in found
        ),
        none=nothing("customers", email, customer, starting_after),
    )


@app.command("map", epilog="Example: billhook customers map users.csv --by email --dry-run")
def map_customers(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV file with a customer_id or email column, and with the columns subject_type "
            "and subject_id.",
            metavar="FILE",
        ),
    ] = None,
    by: Annotated[
        Literal["file", "email", "metadata"],
        typer.Option(
            help="How customers are identified: by id or email in a file, or by metadata."
        ),
    ] = "file",
    key: Annotated[
        str | None,
        typer.Option(help="With --by metadata: the key whose value is the subject's id."),
    ] = None,
    subject_type: Annotated[
        str | None,
        typer.Option("--type", help="The subjects' type, unless the file has subject_type."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace mappings that contradict the assignments.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Only show what would be assigned.")] = False,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Specify which subjects existing customers pay for."""
    with ExitStack() as at_end:
        client = at_end.enter_context(connected(url))
        if by == "metadata":
            wanted = _by_metadata(client, environment, key, subject_type)
        else:
            wanted = _in_file(file, "customer_id" if by == "file" else "email", subject_type)
        given = at_end.enter_context(_Spool())
        for each in wanted:
            given.add(orjson.dumps(each))

        def send(*, dry_run: bool) -> tuple[_Spool, Counter[str]]:
            outcomes = at_end.enter_context(_Spool())
            numbers: Counter[str] = Counter()
            for batch in given.batches():
                assignments = [orjson.loads(line) for line in batch]
                for each in client.customers.assign(
                    environment, assignments, overwrite=overwrite, dry_run=dry_run
                ):
                    outcomes.add(each.model_dump_json(by_alias=True).encode())
                    numbers[each.outcome] += 1
            return outcomes, numbers

        outcomes, numbers = send(dry_run=True)
        if (count := numbers["assigned"]) and not dry_run:
            confirm(f"Assign {count} of {numbers.total()} customers in {environment}?", yes)
            outcomes, numbers = send(dry_run=False)
        if as_json:
            show_json_lines("assignments", chain.from_iterable(outcomes.batches()))
        else:
            _show(outcomes, numbers, dry_run=dry_run)


class _Spool:
    """Lines in a temporary file: a million customers need not fit in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def add(self, line: bytes) -> None:
        """Append a line."""
        self._file.write(line + b"\n")

    def batches(self) -> Iterator[list[bytes]]:
        """All lines, as many at once as a request may contain."""
        self._file.seek(0)
        while batch := [line.rstrip() for line in islice(self._file, _AT_ONCE)]:
            yield batch


def _show(outcomes: _Spool, numbers: Counter[str], *, dry_run: bool) -> None:
    for batch in outcomes.batches():
        found = [each for line in batch if (each := orjson.loads(line))["outcome"] != "unchanged"]
        rows = [
            [
                each["customerId"],
                each["email"],
                "{type}:{id}".format_map(each["subject"]),
                each["outcome"],
            ]
            for each in found
        ]
        if rows:
            show_table(["customer", "email", "subject", "outcome"], rows, none="")
    if numbers.total() == numbers["unchanged"]:
        print("Nothing to assign.")
    for outcome, number in sorted(numbers.items()):
        print(f"{number} {_MEANING[outcome]}")
    if dry_run:
        print("Dry run: nothing was changed.")


def _in_file(
    file: Path | None, column: Literal["customer_id", "email"], subject_type: str | None
) -> Iterator[AssignmentInput]:
    """The rows of a CSV file.

    Raises:
        SettingsError: there is no file, or it lacks a column.
    """
    if file is None:
        raise SettingsError(f"Pass a CSV file with the columns {column}, subject_type, subject_id.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            needed = {column, "subject_id"} | (set() if subject_type else {"subject_type"})
            if lacking := sorted(needed - set(rows.fieldnames or ())):
                raise SettingsError(f"{file} lacks the columns {', '.join(lacking)}.")
            for row in rows:
                kind = row.get("subject_type") or subject_type or ""
                subject = {"type": kind, "id": row["subject_id"] or ""}
                yield {column: row[column] or "", "subject": subject}  # type: ignore[misc]
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8. Save it as UTF-8, and try again.") from error
    except csv.Error as error:
        raise SettingsError(f"{file} is not a CSV file: {error}.") from error


def _by_metadata(
    client: Client, environment: Environment, key: str | None, subject_type: str | None
) -> Iterator[AssignmentInput]:
    """The customers that have the key in their metadata at Stripe.

    Raises:
        SettingsError: an option is missing.
    """
    if not key or not subject_type:
        raise SettingsError(
            "--by metadata needs --key and --type, such as --key user_id --type user."
        )
    for customer in client.customers.all(environment):
        if not customer.deleted and (found := customer.metadata.get(key)):
            yield {
                "customer_id": customer.provider_customer_id,
                "subject": {"type": subject_type, "id": found},
            }
