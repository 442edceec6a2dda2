"""``lineitem quote`` as it is called: every published case through standard input, and one price with its working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.command import Command

VECTORS = Path(__file__).parents[1] / "rate" / "quote_vectors.jsonl"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A folder without a ledger: a quote needs none."""
    return Command(tmp_path_factory.mktemp("quote"))


def test_every_published_case(command: Command) -> None:
    """JSON Lines in, JSON Lines out, in order, to the last digit; exit code 0."""
    answer = command.run("quote", stdin=VECTORS.read_bytes())
    cases = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    assert answer.lines == [{key: case[key] for key in ("id", "amounts", "amount") if key in case} for case in cases]
    assert answer.code == 0
    assert {case["price"]["model"] for case in cases} >= {
        "percentage",
        "matrix",
        "stairstep",
        "dynamic",
        "cost_plus",
        "telecom",
    }


def test_a_price_per_event_from_a_file(command: Command) -> None:
    """Plain values and objects; JSON has each event's amount and their sum, the text says how each came about."""
    price = command.data_dir / "price.yaml"
    price.write_text('{model: percentage, currency: USD, rate: "0.013", per_event: "2", free_events: 2}')
    call: list[str | Path] = [
        "quote",
        "--price",
        price,
        "--event",
        "50",
        "--event",
        '{"value": "100"}',
        "--event",
        "400",
    ]
    document = command.json(*call)
    assert (document["amounts"], document["amount"]) == (["0", "0", "7.2"], "7.2")
    shown = command.run(*call).out
    for text in ("3 events", "event 1: free", "event 3", "0.013", "7.2", "total"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--event", "5"], "--price", 2),
        (["--price", "price.yaml", "--event", "5", "--quantity", "5"], "either", 2),
        (["--price", "price.yaml"], "--event", 2),
        (["--price", "price.yaml", "--event", "{"], "not JSON", 1),
        (["--price", "price.yaml", "--quantity", "5"], "charges each event", 1),
    ],
)
def test_a_wrong_call_is_told(command: Command, arguments: list[str], said: str, code: int) -> None:
    """One sentence on standard error, nothing on standard output."""
    (command.data_dir / "price.yaml").write_text('{model: percentage, currency: USD, rate: "0.013"}')
    found = [str(command.data_dir / text) if text.endswith(".yaml") else text for text in arguments]
    answer = command.run("quote", *found)
    assert answer.code == code
    assert said in answer.err
    assert answer.out == ""
