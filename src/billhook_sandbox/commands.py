"""`billhook sandbox COMMAND`: the controls of a running sandbox, from the command line."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import httpx

from billhook_sandbox.delivery_policy import Mode, Order
from billhook_sandbox.fault_injection import RateReason

ADDRESS = "http://127.0.0.1:12111"
TIMEOUT_SECONDS = 600
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Arguments = argparse.Namespace
Body = dict[str, Any]


class Command(NamedTuple):
    help: str
    arguments: Callable[[argparse.ArgumentParser], object]
    body: Callable[[Arguments], Body | None]
    """What is sent; None only asks."""


def duration(raw: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", raw)
    if found is None:
        raise argparse.ArgumentTypeError("a time such as 90, 30s, 15m, 12h, 31d or 2w")
    return float(found[1]) * UNITS[found[2] or "s"]


def given(arguments: Arguments, **renamed: str) -> Body:
    """The options that were given, by the names that the control knows."""
    own = {k: v for k, v in vars(arguments).items() if k not in ("command", "url")}
    return {renamed.get(k, k): v for k, v in own.items() if v is not None and v is not False}


def no_arguments(_: argparse.ArgumentParser) -> None:
    """For commands that need none."""


def fault_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", type=int, help="429, 409, 500 or another status of an error")
    parser.add_argument("--reason", choices=get_args(RateReason), help="of a 429")
    parser.add_argument("--method", help="only such requests: GET, POST, DELETE")
    parser.add_argument("--path", dest="path_prefix", help="only paths that begin so")
    parser.add_argument("--times", type=int, help="how many requests; 1")
    parser.add_argument("--share", type=float, help="fail so many of them, by lot: 0.3")
    parser.add_argument("--after-effect", action="store_true", help="lose only the answer")
    parser.add_argument("--stored", action="store_true", help="the idempotency key replays it")
    parser.add_argument("--seconds", type=float, help="how long the answer takes")
    parser.add_argument("--cut", action="store_true", help="cut the connection")


def delivery_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=get_args(Mode))
    parser.add_argument("--order", choices=get_args(Order))
    parser.add_argument("--duplicate", type=float, help="the share that comes twice, 0 to 1")
    parser.add_argument("--drop", type=float, help="the share that is lost, 0 to 1")
    parser.add_argument("--delay", type=float, help="the longest delay in seconds")
    parser.add_argument("--gather", type=float, help="how long a burst is gathered, in seconds")
    parser.add_argument("--seed", type=int, help="the same seed gives the same fates")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--timeout", type=float, help="of an endpoint's answer, in seconds")


def pay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session")
    parser.add_argument("--card", dest="payment_method", help="pm_card_visa unless told otherwise")
    parser.add_argument("--email")
    parser.add_argument("--name")
    parser.add_argument("--authentication", choices=("ask", "confirmed", "denied"))


def authenticate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("intent")
    parser.add_argument("--deny", dest="decision", action="store_const", const="denied")


def outcome_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("card", help="a test card, such as pm_card_chargeDeclined")
    parser.add_argument("--times", type=int, help="how many payments; 1")
    parser.add_argument("--customer", help="only this customer's payments")
    parser.add_argument("--key", help="of the account; sk_test_sandbox")


def seed_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in ("products", "prices", "customers", "subscriptions", "payments"):
        parser.add_argument(f"--{kind}", type=int)
    parser.add_argument("--key", help="of the account; sk_test_sandbox")


def renew_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subscription")
    parser.add_argument("--failed", dest="outcome", action="store_const", const="failed")


def roll_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("endpoint", help="the id of a webhook endpoint")
    parser.add_argument(
        "--overlap", dest="overlap_seconds", type=duration, help="the old one signs along; 1d"
    )


def restrict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", help="a restricted key, such as rk_test_sandbox")
    parser.add_argument("access", nargs="*", help="RESOURCE=none, =read or =write")


def latency_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("seconds", type=duration)
    parser.add_argument("--path", dest="path_prefix", help="only paths that begin so")


def version_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", help="such as 2024-06-20")
    parser.add_argument("--key", help="of the account; sk_test_sandbox")


COMMANDS: dict[str, Command] = {
    "advance": Command(
        "move time forward, doing what falls due",
        lambda p: p.add_argument("seconds", metavar="TIME", type=duration, help="such as 31d"),
        given,
    ),
    "api-version": Command("the account's default API version", version_arguments, given),
    "authenticate": Command("answer an intent that requires action", authenticate_arguments, given),
    "delivery": Command("how webhooks are delivered", delivery_arguments, given),
    "dump": Command(
        "every object, one a line",
        lambda p: p.add_argument("--key", help="only of this key's account"),
        lambda _: None,
    ),
    "extra-keys": Command(
        "have unknown keys in all objects",
        lambda p: p.add_argument("on", choices=("on", "off")),
        lambda a: {"on": a.on == "on"},
    ),
    "fault": Command("let requests fail", fault_arguments, given),
    "recover": Command("let no request fail any longer", no_arguments, given),
    "health": Command("whether it runs, and its time", no_arguments, lambda _: None),
    "latency": Command("slow all answers down", latency_arguments, given),
    "outcome": Command("decide how the next payments go", outcome_arguments, given),
    "pay": Command("pay a Checkout session", pay_arguments, given),
    "renew": Command("renew a subscription now", renew_arguments, given),
    "reset": Command("forget everything", no_arguments, given),
    "restrict-key": Command(
        "take permissions from a restricted key",
        restrict_arguments,
        lambda a: {"key": a.key, "access": dict(pair.split("=", 1) for pair in a.access)},
    ),
    "revoke-key": Command("refuse a key from now on", lambda p: p.add_argument("key"), given),
    "roll-secret": Command("give a webhook endpoint a new secret", roll_arguments, given),
    "seed": Command("make many objects at once", seed_arguments, given),
    "settle": Command("wait until what follows is delivered", no_arguments, given),
    "stats": Command("how much there is", no_arguments, lambda _: None),
}


def run(words: Sequence[str]) -> int:
    """Sends the command and prints the answer; 0 when it was obeyed, else 1."""
    parser = argparse.ArgumentParser(prog="billhook sandbox")
    parser.add_argument("--url", default=ADDRESS, help=f"of the running sandbox; {ADDRESS}")
    known = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        child = known.add_parser(name, help=command.help, description=command.help)
        child.add_argument("--url", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.arguments(child)
    asked = parser.parse_args(words)
    try:
        return send(asked, COMMANDS[asked.command].body(asked))
    except httpx.TransportError as error:
        return print_error(f"no sandbox answers at {asked.url}: {error}")
    except ValueError:
        return print_error("access is written RESOURCE=none, RESOURCE=read or RESOURCE=write")


def send(asked: Arguments, body: Body | None) -> int:
    url = f"{asked.url}/_sandbox/{asked.command.replace('-', '_')}"
    if asked.command == "dump":
        return dump(url, {"key": asked.key} if asked.key else {})
    if body is None:
        answer = httpx.get(url, timeout=TIMEOUT_SECONDS)
    else:
        answer = httpx.post(url, json=body, timeout=TIMEOUT_SECONDS)
    if answer.is_error:
        return print_error(message_of(answer))
    print(json.dumps(answer.json(), indent=2))
    return 0


def dump(url: str, params: dict[str, str]) -> int:
    with httpx.stream("GET", url, params=params, timeout=TIMEOUT_SECONDS) as answer:
        if answer.is_error:
            answer.read()
            return print_error(message_of(answer))
        try:
            for chunk in answer.iter_bytes():
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read it (`head`) has seen enough; nothing more may be written at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def message_of(answer: httpx.Response) -> str:
    """The message of Stripe's error, or the control's own sentence."""
    if answer.headers.get("content-type", "").startswith("application/json"):
        return str(answer.json()["error"]["message"])
    return answer.text


def print_error(message: str) -> int:
    print(f"billhook sandbox: {message}", file=sys.stderr)
    return 1
