"""A ledger for a whole module: the server stays up between commands, and a catalog is in force."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command


@pytest.fixture(scope="module")
def lineitem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """``lineitem`` with a data folder whose catalog is published."""
    folder = tmp_path_factory.mktemp("ledger")
    catalog = folder / "catalog.yaml"
    catalog.write_text(CATALOG)
    command = Command(folder / "data")
    with EmbeddedServer(command.data_dir):
        assert command.json("catalog", "publish", catalog)["changed"]
        yield command
