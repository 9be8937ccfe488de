"""`billhook sandbox COMMAND`: the command line for the controls of a running sandbox."""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import httpx

from billhook_sandbox.delivery_policy import Mode, Order
from billhook_sandbox.fault_injection import RateReason
from billhook_sandbox.local_access import host_of, is_loopback

DEFAULT_URL = "http://127.0.0.1:12111"
TIMEOUT_SECONDS = 600
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Body = dict[str, Any]


class Command(NamedTuple):
    help: str
    arguments: Callable[[argparse.ArgumentParser], object]
    body: Callable[[argparse.Namespace], Body | None]
    """Builds the request body; None sends a GET request."""


def duration(raw: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", raw)
    if match is None:
        raise argparse.ArgumentTypeError("must be a time such as 90, 30s, 15m, 12h, 31d or 2w")
    return float(match[1]) * UNITS[match[2] or "s"]


def given_options(arguments: argparse.Namespace) -> Body:
    """The options that were given."""
    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "url")}
    return {k: v for k, v in options.items() if v is not None and v is not False}


def no_arguments(_: argparse.ArgumentParser) -> None:
    """For commands without options."""


def fault_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", type=int, help="HTTP status, such as 429, 409 or 500")
    parser.add_argument("--reason", choices=get_args(RateReason), help="reason for a 429")
    parser.add_argument("--method", help="only requests with this method")
    parser.add_argument("--path", dest="path_prefix", help="only paths with this prefix")
    parser.add_argument("--times", type=int, help="how many requests fail (default: 1)")
    parser.add_argument(
        "--share", type=float, help="fail a random share of the requests, such as 0.3"
    )
    parser.add_argument(
        "--after-effect", action="store_true", help="execute the request and lose only its response"
    )
    parser.add_argument(
        "--stored", action="store_true", help="store the failure under the idempotency key"
    )
    parser.add_argument("--seconds", type=float, help="delay the response by this many seconds")
    parser.add_argument(
        "--cut", action="store_true", help="close the connection without a response"
    )


def delivery_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=get_args(Mode))
    parser.add_argument("--order", choices=get_args(Order))
    parser.add_argument("--duplicate", type=float, help="share that is sent twice, 0 to 1")
    parser.add_argument("--drop", type=float, help="share that is lost, 0 to 1")
    parser.add_argument("--delay", type=float, help="longest delay in seconds")
    parser.add_argument("--gather", type=float, help="seconds without events that end a burst")
    parser.add_argument("--seed", type=int, help="seed of the random choices")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--timeout", type=float, help="seconds to wait for an endpoint's response")


def pay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session")
    parser.add_argument(
        "--card", dest="payment_method", help="payment method (default: pm_card_visa)"
    )
    parser.add_argument("--email")
    parser.add_argument("--name")
    parser.add_argument("--country", help="of the billing address (default: US)")
    parser.add_argument("--promotion-code", dest="promotion_code")
    parser.add_argument("--shipping-rate", dest="shipping_rate", help="id or display name")
    parser.add_argument("--authentication", choices=("ask", "confirmed", "denied"))


def authenticate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("intent")
    parser.add_argument("--deny", dest="decision", action="store_const", const="denied")


def outcome_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("card", help="test card, such as pm_card_chargeDeclined")
    parser.add_argument("--times", type=int, help="how many payments (default: 1)")
    parser.add_argument("--customer", help="only this customer's payments")
    parser.add_argument("--key", help="API key of the account (default: sk_test_sandbox)")


def seed_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in ("products", "prices", "customers", "subscriptions", "payments"):
        parser.add_argument(f"--{kind}", type=int)
    parser.add_argument("--key", help="API key of the account (default: sk_test_sandbox)")


def renew_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subscription")
    parser.add_argument("--failed", dest="outcome", action="store_const", const="failed")


def roll_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("endpoint", help="id of a webhook endpoint")
    parser.add_argument(
        "--overlap",
        dest="overlap_seconds",
        type=duration,
        help="how long the old secret stays valid (default: 1d)",
    )


def restrict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", help="restricted key, such as rk_test_sandbox")
    parser.add_argument("access", nargs="*", help="RESOURCE=none, RESOURCE=read or RESOURCE=write")


def latency_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("seconds", type=duration)
    parser.add_argument("--path", dest="path_prefix", help="only paths with this prefix")


def account_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="what customers see, such as Acme")
    parser.add_argument("--key", help="API key of the account (default: sk_test_sandbox)")


def version_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", help="such as 2024-06-20")
    parser.add_argument("--key", help="API key of the account (default: sk_test_sandbox)")


COMMANDS: dict[str, Command] = {
    "account": Command("set the name of the account", account_arguments, given_options),
    "advance": Command(
        "move time forward and run everything that becomes due",
        lambda p: p.add_argument("seconds", metavar="TIME", type=duration, help="such as 31d"),
        given_options,
    ),
    "api-version": Command(
        "set the account's default API version", version_arguments, given_options
    ),
    "authenticate": Command(
        "confirm or deny an intent that requires action", authenticate_arguments, given_options
    ),
    "catch-up": Command(
        "move a clock that is in the past to the present", no_arguments, given_options
    ),
    "delivery": Command("change how webhooks are delivered", delivery_arguments, given_options),
    "dump": Command(
        "print all objects as JSON lines",
        lambda p: p.add_argument("--key", help="only the account of this API key"),
        lambda _: None,
    ),
    "extra-keys": Command(
        "add unknown fields to all objects",
        lambda p: p.add_argument("on", choices=("on", "off")),
        lambda a: {"on": a.on == "on"},
    ),
    "fault": Command("make requests fail", fault_arguments, given_options),
    "recover": Command("remove all faults", no_arguments, given_options),
    "health": Command(
        "show that the sandbox is running, and its time", no_arguments, lambda _: None
    ),
    "latency": Command("delay all responses", latency_arguments, given_options),
    "outcome": Command("set the outcome of the next payments", outcome_arguments, given_options),
    "pay": Command("pay a Checkout Session", pay_arguments, given_options),
    "refund-action": Command(
        "make a pending refund wait for the customer",
        lambda p: p.add_argument("refund", help="id of a refund"),
        given_options,
    ),
    "renew": Command("renew a subscription now", renew_arguments, given_options),
    "reset": Command("delete all data and settings", no_arguments, given_options),
    "restrict-key": Command(
        "limit the access of a restricted key",
        restrict_arguments,
        lambda a: {"key": a.key, "access": dict(pair.split("=", 1) for pair in a.access)},
    ),
    "revoke-key": Command("revoke an API key", lambda p: p.add_argument("key"), given_options),
    "roll-secret": Command("give a webhook endpoint a new secret", roll_arguments, given_options),
    "seed": Command("create many objects at once", seed_arguments, given_options),
    "settle": Command(
        "advance a few seconds and wait for all deliveries", no_arguments, given_options
    ),
    "stats": Command("count objects and deliveries", no_arguments, lambda _: None),
}


def run(arguments: Sequence[str]) -> int:
    """Sends the command and prints the response. Returns the exit code: 0 on success, else 1."""
    parser = argparse.ArgumentParser(prog="billhook sandbox")
    parser.add_argument(
        "--url",
        default=None,
        help="URL of the running sandbox (default: STRIPE_API_BASE if it is an address of this "
        f"machine, else that of the `billhook dev` of this folder, else {DEFAULT_URL})",
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        child = subparsers.add_parser(name, help=command.help, description=command.help)
        child.add_argument("--url", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.arguments(child)
    options = parser.parse_args(arguments)
    options.url = options.url or default_url()
    try:
        return send(options, COMMANDS[options.command].body(options))
    except httpx.TransportError as error:
        return print_error(f"no sandbox is running at {options.url}: {error}")
    except ValueError:
        return print_error("write access as RESOURCE=none, RESOURCE=read or RESOURCE=write")


def default_url() -> str:
    """The sandbox that the app in this shell uses, else that of the `billhook dev` that runs in
    this folder or one above it, else the usual one."""
    url = os.environ.get("STRIPE_API_BASE") or url_of_dev(Path.cwd())
    return url.rstrip("/") if url and is_loopback(host_of(url)) else DEFAULT_URL


def url_of_dev(folder: Path) -> str | None:
    files = (each / ".billhook" / "env" for each in (folder, *folder.parents))
    found = next((each for each in files if each.is_file()), None)
    words = shlex.split(found.read_text()) if found else []
    values = (word.partition("=") for word in words)
    return next((value for name, _, value in values if name == "STRIPE_API_BASE"), None)


def send(options: argparse.Namespace, body: Body | None) -> int:
    url = f"{options.url}/_sandbox/{options.command.replace('-', '_')}"
    if options.command == "dump":
        return dump(url, {"key": options.key} if options.key else {})
    if body is None:
        response = httpx.get(url, timeout=TIMEOUT_SECONDS)
    else:
        response = httpx.post(url, json=body, timeout=TIMEOUT_SECONDS)
    if response.is_error:
        return print_error(message_of(response))
    print(json.dumps(response.json(), indent=2))
    return 0


def dump(url: str, params: dict[str, str]) -> int:
    with httpx.stream("GET", url, params=params, timeout=TIMEOUT_SECONDS) as response:
        if response.is_error:
            response.read()
            return print_error(message_of(response))
        try:
            for chunk in response.iter_bytes():
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (such as `head`) has closed the pipe. Nothing may be written to it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def message_of(response: httpx.Response) -> str:
    """The message of a Stripe error, or the text of a control's error."""
    if response.headers.get("content-type", "").startswith("application/json"):
        return str(response.json()["error"]["message"])
    return response.text


def print_error(message: str) -> int:
    print(f"billhook sandbox: {message}", file=sys.stderr)
    return 1
