"""The long run: ``python -m tests.faults --seed 1 --rounds 200``; every fault and what it left, then the oracle."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.faults.supervisor import Supervisor, rounds


def main() -> None:
    """Run until ``rounds`` faults have happened; an assertion names the seed to try again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--events", type=int, default=40_000)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, {chosen.rounds} rounds, {chosen.events} events", flush=True)
    with tempfile.TemporaryDirectory(prefix="lineitem-faults-") as folder:
        supervisor = Supervisor(Path(folder), chosen.seed, chosen.events)
        for number, name in enumerate(rounds(supervisor, chosen.rounds), 1):
            print(f"{number:4} {name:24} verified", flush=True)
        supervisor.finish()
    print("the ledger equals the oracle after")
    for (fault, code), count in sorted(supervisor.outcomes.items()):
        print(f"{count:6} x {fault:24} exit code {code}")


if __name__ == "__main__":
    main()
