"""``python -m benchmarks [NAME...]``: every benchmark, or those named, as JSON lines."""

from __future__ import annotations

import json
import sys

from benchmarks import growth, kafka, ledger, rating, shadow
from benchmarks.ledger import Bench

BENCHES: dict[str, Bench] = {
    "rating": rating.run,
    "file_to_ledger": ledger.file_to_ledger,
    "verify": growth.verify_rate,
    "growth": growth.growth,
    "shadow": shadow.shadow_rate,
    "kafka_to_ledger": kafka.kafka_to_ledger,
    "kafka_scale": kafka.kafka_scale,
    "kafka_latency": kafka.kafka_latency,
}


def main(names: list[str]) -> int:
    """Run what is named; an unknown name lists those there are."""
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    for name in names or BENCHES:
        for line in BENCHES[name]():
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
