"""The shipped samples are the published data: their digests are the ones their origin page names."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest

SAMPLES = Path("src/lineitem/data/samples")


@pytest.mark.parametrize("name", ["access.log", "llm_conversations.csv"])
def test_sample_is_what_its_origin_page_says(repository: Path, name: str) -> None:
    """Byte for byte: a checkout that changes line ends would move every position and digest."""
    page = (repository / SAMPLES / "ORIGIN.md").read_text()
    row = re.search(rf"^\| `{re.escape(name)}` .*`([0-9a-f]{{64}})` \|$", page, re.MULTILINE)
    assert row is not None
    assert sha256((repository / SAMPLES / name).read_bytes()).hexdigest() == row[1]
