"""How a command reports failure: on standard error; standard output is for results."""

from __future__ import annotations

import sys

import orjson

from billhook.errors import BillhookError, SettingsError

EXIT_FAILED = 1
EXIT_SETTINGS = 2


def failed(error: BillhookError | SettingsError, *, as_json: bool) -> int:
    """Report `error` on standard error.

    Args:
        as_json: in the form of the API's errors; `statusCode` is 0 if there was no response.

    Returns:
        The exit code.
    """
    if isinstance(error, SettingsError):
        told = BillhookError(str(error), status=0, code="SETTINGS_INVALID")
    else:
        told = error
    if as_json:
        print(orjson.dumps(told.body()).decode(), file=sys.stderr)
    else:
        print(f"billhook: {told.message}", file=sys.stderr)
        if told.next_actions:
            print(told.next_actions, file=sys.stderr)
    return EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED
