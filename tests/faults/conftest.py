"""The brokers that tests read from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.broker import Broker, NoBroker, install, running


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One Kafka broker; each test has topics of its own."""
    try:
        install()
    except NoBroker as reason:  # what happens to a broker that is there fails its tests
        pytest.skip(str(reason))
    with running(tmp_path_factory.mktemp("broker")) as started:
        yield started
