"""Usage to measure with: seeded CloudEvents of many accounts, and the catalog that prices them."""

from __future__ import annotations

import random
from pathlib import Path

from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog

_CATALOG = """
currency: USD
meters:
  - id: prompt_tokens
    event_type: llm.completion
    aggregation: sum
    value: data.prompt_tokens
    unit: token
    scale: 0
    dimensions: [data.model]
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {{id: prompt, meter: prompt_tokens, model: per_unit, unit_price: "0.0000025", itemize: {itemize}}}
accounts:
  defaults: {{pricebook: standard, timezone: UTC, billing: monthly}}
"""


def catalog(itemize: str) -> Catalog:
    """One meter, one price per token, itemized as named."""
    return parse_catalog(_CATALOG.format(itemize=itemize), "benchmark")


def write_events(path: Path, events: int, accounts: int, seed: int = 1) -> None:
    """``events`` CloudEvents as NDJSON in time order over four hours of 15 October 2026, about 230 bytes each."""
    made = random.Random(seed)
    span_ms = 4 * 3_600_000
    with path.open("w", encoding="ascii") as file:
        for number in range(events):
            seconds, ms = divmod(number * span_ms // events, 1000)
            file.write(
                f'{{"specversion":"1.0","id":"{made.getrandbits(128):032x}","source":"/gateway/eu-1",'
                f'"type":"llm.completion","subject":"acct-{made.randrange(accounts):05d}",'
                f'"time":"2026-10-15T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}Z",'
                f'"data":{{"model":"m-{made.randrange(3)}","prompt_tokens":{made.randrange(1, 5000)},'
                f'"completion_tokens":{made.randrange(500)}}}}}\n'
            )
