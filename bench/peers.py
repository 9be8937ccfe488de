"""Beside peers: webhooks received, and full syncs, with the same load, sandbox process, PostgreSQL
cluster and run.

Webhooks: purchases without their `checkout.session.completed`, for which stripe-sync-engine asks
Stripe. Both servers are one process, on a new database of their own, and run alternately.

Each program syncs products, prices, customers and subscriptions into an empty database of its own,
one after the other, in a process of its own. What it wrote is counted in its tables, so one that is
stopped after `PATIENCE` has its rate as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import asyncpg
import uvloop

from bench import events
from bench.database import server
from bench.sync import KEY, LIST_RATE, peak_memory, sandbox, syncing
from billhook.kinds import KINDS
from billhook.postgres.migrate import migrate

HERE = Path(__file__).with_name("peer_programs")
INSTALLED = Path(".bench")
PATIENCE = 120.0  # seconds
SIZES = (10_000, 100_000)
LATENCIES = (0.0, 0.05)
ROUNDS = 3
_COMPARED = ("product", "price", "customer", "subscription")


@dataclass(frozen=True)
class Program:
    """Something that syncs; its arguments are the database, Stripe and the key.

    Attributes:
        folder: the checkout that it belongs to, if that is not this one.
    """

    name: str
    command: tuple[str, ...]
    tables: tuple[str, ...]
    folder: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """Its result; `peak_mb` is 0 if it was stopped."""

    objects: int
    seconds: float
    peak_mb: int
    stopped: bool


def billhook(list_rate: float, folder: Path | None = None) -> Program:
    """This module, run as a program."""
    return Program(
        "billhook",
        (sys.executable, "-m", "bench.peers", str(list_rate)),
        tuple(f"payments.{KINDS[name].table}" for name in _COMPARED),
        folder,
    )


def install() -> list[Program]:
    """The peers, installed into `.bench/` on first use; those that could not be installed are
    omitted."""
    INSTALLED.mkdir(exist_ok=True)
    found = []
    if shutil.which("npm") and _installed("node_modules", _install_engine):
        tables = tuple(f"stripe.{name}" for name in ("products", "prices", "customers"))
        found.append(
            Program(
                "stripe-sync-engine",
                ("node", str(INSTALLED / "engine.mjs")),
                (*tables, "stripe.subscriptions"),
            )
        )
    if _installed("dj-stripe", _install_djstripe):
        names = ("product", "price", "customer", "subscription")
        found.append(
            Program(
                "dj-stripe",
                (str(INSTALLED / "dj-stripe/bin/python"), str(HERE / "djstripe.py")),
                tuple(f"djstripe_{name}" for name in names),
            )
        )
    return found


def _installed(name: str, how: object) -> bool:
    if not (INSTALLED / name).exists():
        assert callable(how)
        try:
            how()
        except subprocess.CalledProcessError as error:
            shutil.rmtree(INSTALLED / name, ignore_errors=True)
            print(f"  not compared: {name} could not be installed ({error})")
            return False
    return True


def _install_engine() -> None:
    for name in ("package.json", "package-lock.json", "engine.mjs", "engine_webhooks.mjs"):
        shutil.copy(HERE / name, INSTALLED / name)
    subprocess.run(
        ["npm", "ci", "--prefix", str(INSTALLED), "--no-audit", "--no-fund", "--silent"], check=True
    )


def _install_djstripe() -> None:
    home = INSTALLED / "dj-stripe"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)


def run(program: Program, dsn: str, url: str) -> Outcome:
    """Let a program sync everything, or as much as it can within the time limit."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*program.command, dsn, url, KEY],
        cwd=program.folder,
        env=os.environ | ({"PYTHONPATH": str(program.folder / "src")} if program.folder else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Outcome(_count(dsn, program), time.perf_counter() - began, 0, True)
    lines = out.strip().splitlines()
    if process.returncode or not lines:
        raise RuntimeError(f"{program.name} failed: {err[-2000:]}")
    said = json.loads(lines[-1])
    return Outcome(_count(dsn, program), said["seconds"], said["peak_mb"], False)


def _count(dsn: str, program: Program) -> int:
    async def work() -> int:
        connection = await asyncpg.connect(dsn)
        try:
            counts = [
                await connection.fetchval(f"SELECT count(*) FROM {t}") for t in program.tables
            ]
        finally:
            await connection.close()
        return sum(counts)

    return asyncio.run(work())


def main() -> None:
    """Run everything and print."""
    peers = install()
    if any(each.name == "stripe-sync-engine" for each in peers):
        webhooks()
    for objects in SIZES:
        for latency in LATENCIES:
            # The peers have no rate limit, so without latency Billhook has none either.
            list_rate = LIST_RATE if latency else 0
            cap = f"billhook at {LIST_RATE} requests/s a list" if latency else "no cap"
            print(f"sync of {objects:,} objects, Stripe at {latency * 1000:.0f} ms, {cap}")
            with sandbox(objects, latency) as url, server() as postgres:
                rates = {}
                for program in (billhook(list_rate), *peers):
                    dsn = postgres.create_database(program.name.replace("-", "_"))
                    rates[program.name] = _show(program, run(program, dsn, url))
            rate = rates.pop("billhook")
            if rates:
                best = max(rates, key=lambda name: rates[name])
                print(f"  billhook / {best}: {rate / rates[best]:.1f}")


def webhooks() -> None:
    """Print the rates of both, and their ratio."""
    print(f"webhooks, {ROUNDS} turns of {events.SECONDS:g} s each; fsync on")
    print("concurrency   stripe-sync-engine/s   billhook/s   ratio")
    with server() as postgres:
        dsn = events.migrated(postgres, "billhook")
        with events.server(dsn) as ours, _engine(postgres.create_database("engine")) as peer:
            for senders in events.CONCURRENCY:
                rates: dict[str, list[float]] = {ours: [], peer: []}
                for number in range(ROUNDS):
                    for address in (ours, peer) if number % 2 else (peer, ours):
                        sent = _received(address, senders, f"a{senders}_{number}")
                        rates[address].append(asyncio.run(sent))
                ours_rate, peer_rate = (statistics.median(rates[each]) for each in (ours, peer))
                print(
                    f"{senders:>11}   {peer_rate:>20.0f}   {ours_rate:>10.0f}   "
                    f"{ours_rate / peer_rate:>5.2f}",
                    flush=True,
                )


@contextmanager
def _engine(dsn: str) -> Iterator[str]:
    """The address of a server around stripe-sync-engine."""
    process = subprocess.Popen(
        ["node", str(INSTALLED / "engine_webhooks.mjs"), dsn, events.SECRET],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


async def _received(address: str, senders: int, label: str) -> float:
    """Events per second."""
    until = time.perf_counter() + events.SECONDS
    sent = takewhile(
        lambda body: time.perf_counter() < until,
        (each for each in events.purchases(label) if b'"checkout.session.completed"' not in each),
    )
    return events.rate(await events.deliver([address], senders, sent))


def _show(program: Program, outcome: Outcome) -> float:
    rate = outcome.objects / outcome.seconds
    how = (
        f"stopped after {outcome.seconds:.0f} s"
        if outcome.stopped
        else (f"{outcome.seconds:.1f} s, peak {outcome.peak_mb} MB")
    )
    print(f"  {program.name}: {outcome.objects:,} objects, {rate:,.0f}/s, {how}", flush=True)
    return rate


async def ours(list_rate: float, dsn: str, url: str) -> None:
    """One sync of Billhook; reports the result as the peers do."""
    await migrate(dsn)
    async with syncing(dsn, url, list_rate) as sync:
        began = time.perf_counter()
        result = await sync.run("test")
        seconds = time.perf_counter() - began
    assert result.connection.last_sync_error is None, result.connection.last_sync_error
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory()}))


if __name__ == "__main__":
    uvloop.run(ours(float(sys.argv[1]), *sys.argv[2:4]))  # as the server runs
