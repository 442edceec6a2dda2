"""How far the ledger is behind each partition of a topic, asked without being a member of any group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.kafka.settings import OWN, PORT
from lineitem.adapters.kafka.topic import Broker
from lineitem.adapters.streams import Place


def positions(url: str, config: Path | None, known: Mapping[str, int]) -> dict[int, Place]:
    """Every partition of the topic at ``url``. ``known``: streams and how far the ledger has read them.

    Raises UsageError, InputError, Refused, EnvironmentProblem as reading it would.
    """
    broker = Broker(parse_address(url, "kafka", PORT), read_settings(config, refused=OWN) if config else {})
    topic = broker.topic()
    found = {}
    for number, (first, end) in broker.ends(topic).items():
        at = known.get(topic.stream(number), 0)
        found[number] = Place(topic.name, at, max(0, end - max(at, first)))
    return found
