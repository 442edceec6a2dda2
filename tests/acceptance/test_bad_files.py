"""Whole files that are wrong: every one gets an answer that names it, and what is good in it is billed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.acceptance.command import CATALOG, Command, line, ndjson, without_rights

MAP = """
type: {const: llm.completion}
subject: who
time: {column: when, format: iso, timezone: UTC}
data: {tokens: {column: n, type: integer}}
"""
NOTHING = {"received": 0, "batches": 0, "line_items": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of this module lie, with a mapping for CSV."""
    made = tmp_path_factory.mktemp("files")
    (made / "map.yaml").write_text(MAP)
    return made


def _reasons(lineitem: Command, stream: str) -> dict[int, str]:
    """Position -> reason of the dead letters of one stream."""
    letters = lineitem.json("dlq", "list", "--limit", "10000")["dead_letters"]
    return {letter["position"]: letter["reason"] for letter in letters if letter["stream"] == stream}


def _amounts(lineitem: Command, account: str) -> dict[str, str]:
    """Event id -> amount."""
    return {item["event_id"]: item["amount"] for item in lineitem.line_items("--account", account)}


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_record(lineitem: Command, folder: Path) -> None:
    """Saved by an editor of Windows: all records are read, the last one without a line end too."""
    path = folder / "bom.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + line("bom-1", subject="bom") + b"\r\n\r\n" + line("bom-2", subject="bom"))
    assert lineitem.json("ingest", path)["itemized"] == 2
    assert _amounts(lineitem, "bom") == {"bom-1": "0.0000125", "bom-2": "0.0000125"}


def test_a_file_cut_off_in_a_record_loses_that_record_alone(lineitem: Command, folder: Path) -> None:
    """As NDJSON and as an array; when the whole file comes, only what was missing is added."""
    whole = [line(f"cut-{n}", subject="cut-off") for n in range(3)]
    text = b"[" + b",\n".join(whole) + b"]"
    for name, cut, complete in (("a.ndjson", b"\n".join(whole)[:-20], b"\n".join(whole)), ("b.json", text[:-20], text)):
        path = folder / name
        path.write_bytes(cut)
        first = lineitem.json("ingest", path, "--source", name)
        assert (first["received"], first["dead_lettered"]) == (3, 1)
        assert list(_reasons(lineitem, name).values()) == ["bad_json"]
        path.write_bytes(complete)
        second = lineitem.json("ingest", path, "--source", name)
        assert (second["received"], second["dead_lettered"]) == (3, 0)
    assert len(_amounts(lineitem, "cut-off")) == 3


def test_an_empty_file_holds_nothing(lineitem: Command, folder: Path) -> None:
    """Of whatever format; that is not an error."""
    empty = [folder / f"empty{suffix}" for suffix in (".ndjson", ".csv", ".log")]
    for path in empty:
        path.touch()
    assert lineitem.json("ingest", *empty).items() >= NOTHING.items()
    blank = folder / "blank.ndjson"
    blank.write_bytes(b"\xef\xbb\xbf\n \r\n\n")
    assert lineitem.json("ingest", blank, "/dev/null", "--format", "cloudevents").items() >= NOTHING.items()


def test_csv_with_a_wrong_column_says_what_the_file_has(lineitem: Command, folder: Path) -> None:
    """Nothing is guessed and nothing is read."""
    path = folder / "wrong.csv"
    path.write_text("customer,when,n\nacme,2026-01-01 00:00:00,5\n")
    said = lineitem.refused("ingest", path, "--map", folder / "map.yaml")
    assert "'who'" in said
    assert "'customer'" in said
    assert str(path) in said
    said = lineitem.refused("ingest", path)
    assert "--map" in said


def test_rows_that_do_not_fit_the_header_are_set_aside_alone(lineitem: Command, folder: Path) -> None:
    """Too many columns, too few, a quote that is not closed, a time and a number that are none."""
    rows = [
        "acme,2026-01-01 00:00:00,5,9",
        "acme,2026-01-01 00:00:00",
        '"acme,2026-01-01 00:00:00,5',
        "acme,yesterday,5",
        "acme,2026-01-01 00:00:00,5.5",
        "acme,2026-01-01 00:00:00,nan",
    ]
    good = "rows,2026-01-01 00:00:00,5"
    path = folder / "rows.csv"
    text, places = "who,when,n\n", []
    for row in rows:
        text += good + "\n"
        places.append(len(text))
        text += row + "\n"
    path.write_text(text + good)
    counts = lineitem.json("ingest", path, "--map", folder / "map.yaml", "--source", "rows")
    assert (counts["itemized"], counts["dead_lettered"]) == (7, 6)
    expected = ["bad_record", "bad_record", "bad_record", "bad_time", "bad_field", "bad_field"]
    assert _reasons(lineitem, "rows") == dict(zip(places, expected, strict=True))
    assert list(_amounts(lineitem, "rows").values()) == ["0.0000125"] * 7


def test_binary_garbage_is_set_aside_whole(lineitem: Command, folder: Path) -> None:
    """Seeded noise named as events: every piece is a dead letter with its bytes, none is billed."""
    path = folder / "noise.ndjson"
    path.write_bytes(random.Random(1).randbytes(100_000))
    counts = lineitem.json("ingest", path, "--source", "noise")
    assert counts["received"] == counts["dead_lettered"] > 100
    for letter in lineitem.json("dlq", "list", "--limit", "5")["dead_letters"]:
        whole = lineitem.json("dlq", "show", str(letter["key"]))
        assert whole["raw_bytes"] > 0


def test_events_no_meter_knows_are_not_billable(lineitem: Command, folder: Path) -> None:
    """They are accepted and counted; a filter that does not match is the same."""
    lines = [line("unknown", type="nobody.measures"), line("failed", type="http.request", data={"status": 503})]
    counts = lineitem.json("ingest", ndjson(folder / "unknown.ndjson", lines))
    assert (counts["not_billable"], counts["line_items"]) == (2, 0)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("missing.ndjson", None, 1),
        ("folder.ndjson", "folder", 1),
        ("/dev/stdin", None, 1),
        ("/proc/self/mem", None, 1),
        ("noise", bytes(range(256)), 2),
        ("noise.csv", bytes(range(256)), 1),
        ("cut.parquet", b"PAR1" + bytes(500), 1),
        ("empty.parquet", b"", 1),
    ],
)
def test_what_cannot_be_read_is_named(lineitem: Command, folder: Path, name: str, content: object, code: int) -> None:
    """One sentence that begins with the file's name; nothing is written."""
    path = folder / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    arguments = ["--format", "cloudevents"] if name.startswith("/") else []
    said = lineitem.refused("ingest", path, *arguments, code=code, stdin=b'{"from": "a pipe"}')
    assert said.startswith(f"lineitem: {path}")


def test_a_file_that_may_not_be_read_is_named(lineitem: Command, folder: Path) -> None:
    """As somebody who has no right to it."""
    secret = folder / "secret.yaml"
    secret.write_text(CATALOG)
    secret.chmod(0)
    said = lineitem.refused("catalog", "check", secret, code=2, preexec_fn=without_rights)
    assert f"'{secret}' is not readable" in said


def test_the_ledger_is_as_good_as_before(lineitem: Command) -> None:
    """After all of this."""
    assert lineitem.json("verify", "--deep")["findings"] == []
