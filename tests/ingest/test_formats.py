"""The registry of formats, and real files of usage through it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from lineitem.core.errors import UsageError
from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from tests.ingest.samples import decode_all

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
SAMPLES = ROOT / "src" / "lineitem" / "data" / "samples"


def test_formats_by_name() -> None:
    """Names and aliases; an unknown one is a usage error that lists what is known."""
    assert formats.get("ndjson") is formats.get("json") is formats.get("cloudevents")
    assert {formats.get(name).name for name in formats.FORMATS} == set(formats.FORMATS)
    with pytest.raises(UsageError) as caught:
        formats.get("xml")
    assert "cloudevents, csv, parquet, access-log" in caught.value.do


@pytest.mark.parametrize(
    ("path", "first", "name"),
    [
        ("a.ndjson", b"", "cloudevents"),
        ("a.JSON", b"x", "cloudevents"),
        ("a.csv", b"id,type", "csv"),
        ("a.parquet", b"PAR1", "parquet"),
        ("a.bin", b"PAR1\x15", "parquet"),
        ("access.log", b"10.0.0.1 - -", "access-log"),
        ("events.log", b"{}", "cloudevents"),
        ("stdin", b"\xef\xbb\xbf\n [", "cloudevents"),
    ],
)
def test_formats_by_content_and_ending(path: str, first: bytes, name: str) -> None:
    """Content that tells goes before the file's ending."""
    assert formats.detect(path, first) == name


def test_a_format_that_cannot_be_told() -> None:
    """A guess would be worse than a question."""
    with pytest.raises(UsageError, match="cannot tell") as caught:
        formats.detect("usage.txt", b"a,b")
    assert "--format" in caught.value.do


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_settings_are_json(name: str) -> None:
    """What a segment keeps about its format survives JSON."""
    data = {"csv": b"type,subject,time\n", "parquet": None}.get(name, b"")
    if data is not None:
        settings = formats.get(name).settings(BytesIO(data), None)
        assert json.loads(json.dumps(settings)) == settings


@pytest.mark.io
@pytest.mark.skipif(not REAL.exists(), reason="the real files lie beside a development clone only")
@pytest.mark.parametrize(
    ("file", "name", "map_name", "received", "broken"),
    [
        ("azure_llm_conversations.csv", "csv", "azure-llm.yaml", 19_366, []),
        ("online_retail_30k.csv", "csv", "online-retail.yaml", 30_000, []),
        # line 8899 breaks off inside its user agent
        ("apache_access.log", "access-log", "access-log.yaml", 10_000, [8898]),
    ],
)
def test_real_files(file: str, name: str, map_name: str, received: int, broken: list[int]) -> None:
    """Every record of real usage becomes an event, except the one line that is truly broken."""
    mapping = (ROOT / "examples" / "maps" / map_name).read_text()
    events, rejects = decode_all(name, (REAL / file).read_bytes(), mapping)
    assert len(events) + len(rejects) == received
    assert [(r.ordinal, r.reason) for r in rejects] == [(row, Reason.BAD_RECORD) for row in broken]
    assert len(set(events.id)) == len(events)


def test_shipped_samples() -> None:
    """The samples of `lineitem demo` decode as the full files do."""
    azure = (ROOT / "examples" / "maps" / "azure-llm.yaml").read_text()
    events, rejects = decode_all("csv", (SAMPLES / "llm_conversations.csv").read_bytes(), azure)
    assert rejects == []
    assert all(isinstance(value, int) for data in events.data for value in data.values())
    events, rejects = decode_all("access-log", (SAMPLES / "access.log").read_bytes())
    assert {reject.reason for reject in rejects} <= {Reason.BAD_RECORD}
    assert len(rejects) <= 1
