"""Which fault is tried by what, what the long runs have found, and the page that says so: ``python -m tests.faults.report``."""

# ruff: noqa: E501 - rows of tables

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
"""Runs of ``make faults RECORD=1``, the newest last."""
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
KINDS: dict[str, tuple[str, ...]] = {
    "worker dies": (
        "kill_at_a_failpoint", "kill_the_process", "kill_the_preparing_process", "kill_a_worker", "stop_a_worker",
        "interrupt_the_process",
    ),
    "zombie worker": ("wake_a_zombie",),
    "PostgreSQL dies": (
        "kill_the_server", "kill_a_server_process", "kill_the_keeper", "kill_the_postmaster", "stop_it_immediately",
    ),
    "Kafka dies": ("kill_the_broker", "recreate_the_topic"),
    "ambiguous commit": ("lose_the_answer_to_commit",),
    "disk full": ("fill_the_servers_disk", "fill_the_data_folder"),
    "clock skew": ("shift_the_clock",),
    "partition": (
        "partition_for_good", "partition_that_heals", "half_open", "delay_everything", "trickle", "cut_anywhere",
        "cut_from_the_broker", "slow_broker", "partition_from_the_broker", "half_open_to_the_broker",
    ),
    "duplicates, reorder": ("repeat_and_shuffle",),
    "torn batch": ("cut_in_a_copy", "end_its_session_in_a_copy", "end_a_session"),
    "poison": ("send_poison",),
    "slow consumer": ("freeze_the_server",),
    "close race": ("close_a_month_meanwhile",),
    "invoice race": ("bill_meanwhile",),
    "bad upgrade": ("migrate_an_old_ledger",),
}  # fmt: skip
"""Rows of the table of faults -> the kinds that the long run injects."""
MEANINGS = {
    "kill_at_a_failpoint": "SIGKILL at a named place, above all just before and after COMMIT",
    "kill_the_process": "SIGKILL to `lineitem ingest` at any moment",
    "kill_the_preparing_process": "SIGKILL to the process that prepares its batches",
    "kill_a_worker": "SIGKILL to one of two workers of a group",
    "stop_a_worker": "SIGTERM to one of two workers",
    "interrupt_the_process": "SIGINT or SIGTERM to `lineitem ingest`",
    "wake_a_zombie": "SIGSTOP past the session's timeout, another reads on, SIGCONT",
    "kill_the_server": "SIGKILL to the embedded PostgreSQL's main process",
    "kill_a_server_process": "SIGKILL to another of its processes",
    "kill_the_keeper": "SIGKILL to the process that looks after it",
    "kill_the_postmaster": "SIGKILL to the main process of a server on TCP; `pg_amcheck` afterwards",
    "stop_it_immediately": "`pg_ctl stop -m immediate`; `pg_amcheck` afterwards",
    "kill_the_broker": "SIGKILL to Kafka under a worker, started again",
    "recreate_the_topic": "deleted and made anew under a worker: refused until its id is named",
    "lose_the_answer_to_commit": "a proxy cuts the connection once the server has answered COMMIT, before the answer arrives",
    "fill_the_servers_disk": "log, tables and write-ahead log on a small file system that is full",
    "fill_the_data_folder": "raw segments and checkpoints on a small file system that is full",
    "shift_the_clock": "a day back, a day, three years ahead, forty days back (libfaketime)",
    "partition_for_good": "packets swallowed below TCP, nobody is told: the process gives up by itself",
    "partition_that_heals": "packets swallowed for a while",
    "half_open": "the server's side of a connection is gone, the process is not told",
    "delay_everything": "some milliseconds more for everything that passes",
    "trickle": "one byte at a time",
    "cut_anywhere": "cut after any number of bytes, in either direction",
    "cut_from_the_broker": "cut in the middle of a message of Kafka's protocol, then all connections at once",
    "slow_broker": "small pieces, some milliseconds each",
    "partition_from_the_broker": "packets to and from the broker swallowed, past the session's timeout or not",
    "half_open_to_the_broker": "the broker's side of a connection is gone, the worker is not told",
    "repeat_and_shuffle": "a tenth of everything ever sent, sent again in another order",
    "cut_in_a_copy": "cut when half of a COPY message has passed",
    "end_its_session_in_a_copy": "`pg_terminate_backend` when half of a COPY message has passed",
    "end_a_session": "`pg_terminate_backend` to any session at any moment",
    "send_poison": "bad UTF-8, NaN, 1e400, nesting, 10 MB, no value, an empty record; 2^63 is billed exactly; conflicts are in every share",
    "freeze_the_server": "every process of the server stands still for a while",
    "close_a_month_meanwhile": "`period close` killed half way and run again while usage of the month comes in",
    "bill_meanwhile": "three `bill` at once while usage comes in, one of them killed between its steps",
    "migrate_an_old_ledger": "a ledger written at migration 0006 is migrated, verified, and gone on with",
}
"""Kind -> what is done."""
_HEAD = """\
<!-- Generated by `make reference` from tests/faults/report.py and tests/faults/results.json; change those instead. -->
# Faults survived

What can go wrong is made to go wrong, in real processes: `lineitem` as it is installed, PostgreSQL, Apache Kafka (KRaft), and a proxy on
real sockets between them. Usage comes in shares of 1,000 records; while a share is read, one fault happens; then the rest is read in peace,
and all of this is checked, by one function (`tests/faults/invariants.py`), against an oracle that knows only what the producer sent:

| | after every fault |
|---|---|
| I1 | sums per account, price, service period and currency equal the oracle's; the events billed one by one are the oracle's, none twice |
| I2 | every record that was acknowledged, and every batch that was seen committed, is there: identities equal the oracle's, hashes are unchanged |
| I3 | batches of a stream follow each other without a hole, the position is the end of the last one; with Kafka, the end of the partition |
| I4 | the totals equal the oracle's |
| I5 | `verify --deep` finds nothing, and every checkpoint ever signed is extended |
| I6 | one current version per lineage |
| I7 | every invoice is the sum of its lines and unchanged since, numbers are gapless, nothing is invoiced that was not itemized |
| I8 | what `period show` said of a closed month, it says still |
| I9 | received = itemized + pending + duplicate + dead-lettered + not billable, received counted at the producer |
| I10 | what was left is read within two minutes, and no process ever needed more than 700 MB |

A process that is struck must end with exit code 0, or 1 and a sentence, and never with a traceback. *Lost* is an event the oracle accepts
and the ledger does not have, *doubled* one that is billed twice: the first of either ends a run.

    make faults SEED=1 ROUNDS=50            what needs no broker
    make faults SEED=1 ROUNDS=200 KAFKA=1   everything; RECORD=1 adds the run to this page (then: make reference)

"""
_TAIL = """\
## What is tried elsewhere

| fault | where |
|---|---|
| tamper: as superuser change, delete, truncate, detach, swap rows, restore an old copy | `tests/integration/test_tamper.py`: every column of every table |
| daylight saving, month end, leap day | `tests/acceptance/test_hard_times.py`: periods follow event time |
| close and invoice races, step by step | `tests/faults/test_races.py` |
| replays of dead letters killed, two at once | `tests/faults/test_letters.py` |
| records lost to retention, compaction holes, transactions, a broker that lost its newest records | `tests/faults/test_kafka.py` |
| TLS and SASL: a wrong password, an authority that is not trusted | `tests/faults/test_kafka.py` |
| a ledger that stalls and slows down: memory, lag, batch sizes; an unknown schema's id | `tests/faults/test_kafka.py` |
| the same records from a file, a stream in memory, NATS and Kafka; a NATS server that is killed | `tests/faults/test_sources.py` |

`make test` runs a short selection with fixed seeds; a seed that ever failed is added to it.

## What this cannot show

- **A lost fsync.** Killing a process, even PostgreSQL's main one, leaves the kernel's cache: what was written is there whether it was
  synced or not. Only cutting the power of a real disk would tell. The full disks are file systems in memory, where fsync does nothing.
- **A partition on both sides of a lock.** The proxy cuts the server's side when the client's machine would have stopped answering; that
  PostgreSQL itself notices within a minute is its own keepalive, which every connection asks for.
- **More than one broker.** One broker has no replicas to fail over to. An unclean election is imitated by giving a broker an older copy of
  its log.
- Full disks need a file system that only root may mount, shifted clocks need `libfaketime`: where either is missing the run says so and
  goes on without.
"""


def record(run: dict[str, Any]) -> None:
    """Add a run to the results."""
    runs = runs_so_far()
    runs.append(run)
    RESULTS.write_text(json.dumps({"runs": runs}, indent=1) + "\n")


def runs_so_far() -> list[dict[str, Any]]:
    """Every recorded run: seed, date, rounds, records, events, lost, doubled, seconds, kinds (kind -> how often), left_out."""
    if not RESULTS.exists():
        return []
    runs: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"]
    return runs


def page() -> str:
    """docs/reference/faults.md."""
    runs = runs_so_far()
    total: Counter[str] = Counter()
    seeds: dict[str, list[int]] = {}
    for run in runs:
        total.update(run["kinds"])
        for kind in run["kinds"]:
            seeds.setdefault(kind, []).append(run["seed"])
    lines = [_HEAD.rstrip("\n"), "", "## Runs", "", *_runs(runs), "", "## By kind", ""]
    lines += ["| fault | kind | what is done | injected | seeds |", "|---|---|---|---|---|"]
    for row, kinds in KINDS.items():
        for kind in kinds:
            known = ", ".join(map(str, dict.fromkeys(seeds.get(kind, [])))) or "-"
            lines.append(f"| {row} | `{kind}` | {MEANINGS[kind]} | {total[kind]} | {known} |")
    return "\n".join([*lines, "", _TAIL])


def _runs(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| date | seed | faults | records sent | events accepted | lost | doubled | minutes | left out |",
        *["|" + "---|" * 9],
    ]
    for run in runs:
        left_out = ", ".join(run["left_out"]) or "-"
        numbers = " | ".join(f"{run[name]:,}" for name in ("faults", "records", "events", "lost", "doubled"))
        lines.append(f"| {run['date']} | {run['seed']} | {numbers} | {run['seconds'] // 60} | {left_out} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page())
