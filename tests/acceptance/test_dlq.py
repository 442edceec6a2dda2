"""Dead letters worked off through the real command line: looked at, mended in every format, replayed, discarded, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A ledger with a catalog, kept running."""
    folder = tmp_path_factory.mktemp("dlq")
    command = Command(folder / "data")
    (folder / "catalog.yaml").write_text(CATALOG)
    with EmbeddedServer(command.data_dir):
        command.json("catalog", "publish", folder / "catalog.yaml")
        yield command


@pytest.fixture(scope="module")
def bad(command: Command, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The key of a letter that nobody mends."""
    return str(letter(command, tmp_path_factory.mktemp("bad"), line("bad", "words"), "bad"))


def letter(command: Command, folder: Path, raw: bytes, stream: str) -> int:
    """Send one bad record; the key of its letter."""
    counts = command.json("ingest", ndjson(folder / f"{stream}.ndjson", [raw]), "--source", stream)
    assert counts["dead_lettered"] == 1
    return int(command.json("dlq", "list", "--limit", "1")["dead_letters"][0]["key"])


def test_from_list_to_line_item(command: Command, tmp_path: Path) -> None:
    """List, show, fix, dry run, replay, explain, verify: each says what the next one needs."""
    key = letter(command, tmp_path, line("words", "many"), "story")
    found = command.json("dlq", "list", "--code", "bad_value", "--since", "2026-01-01T00:00:00Z")
    assert [one["key"] for one in found["dead_letters"]] == [key]
    assert found["groups"][0]["example"]["key"] == key
    assert found["summary"]["open_by_reason"]["bad_value"]["dead_letters"] == 1
    assert found["reasons"]["bad_value"] == {"dead_letters": 1, "records": 1}
    assert "dead_letters" not in command.json("dlq", "list", "--group")
    assert command.json("doctor")["dead_letters"]["bad_value"]["dead_letters"] == 1
    why = ("--reason", "the producer counted in words", "--by", "ana")
    mended = command.json("dlq", "fix", str(key), "--set", "data.tokens=12", *why)
    assert (mended["reads"], mended["patch"]) == (True, {"set": {"data.tokens": "12"}})
    told = command.json("dlq", "replay", str(key), "--dry-run")
    assert (told["dry_run"], told["by_reason"]["bad_value"]["amounts"]) == (True, {"USD": "0.00003"})
    assert command.json("dlq", "show", str(key))["state"] == "open"
    done = command.json("dlq", "replay", "--code", "bad_value", "--rate", "1000/s", "--limit", "1")
    assert (done["tried"], done["replayed"], done["failed"]) == (1, 1, 0)
    shown = command.json("dlq", "show", str(key))
    assert shown["state"] == "replayed"
    assert (shown["history"][0]["act"], shown["history"][0]["by"]) == ("fix", "ana")
    (item,) = shown["resolution"]["line_items"]
    event = command.json("explain", item)["events"]["items"][0]
    assert event["raw"] == line("words", "many").decode()
    assert event["fixes"][0]["patch"] == {"set": {"data.tokens": "12"}}
    assert event["mended"] == line("words", 12).decode().replace(": ", ":").replace(", ", ",")
    assert (event["stream"], event["position"], event["format"]) == ("story", 0, "cloudevents")
    assert "the producer counted in words" in command.run("explain", item).out
    assert command.json("proof", item)
    assert command.json("dlq", "replay", str(key))["skipped"] == 1
    assert command.json("verify", "--deep")["findings"] == []


def test_fix_and_replay_in_one_go(command: Command, tmp_path: Path) -> None:
    """From standard input, for bytes that do not parse."""
    key = letter(command, tmp_path, b'{"specversion": "1.0", "id"', "cut")
    call = ("dlq", "fix", str(key), "--record", "-", "--reason", "cut off on its way", "--replay")
    done = command.json(*call, stdin=line("whole", 4) + b"\n")
    assert done["replay"]["results"][0]["outcome"] == "accepted"
    assert [
        item["event_id"] for item in command.line_items() if item["id"] in done["replay"]["results"][0]["line_items"]
    ] == ["whole"]


def test_numbers_keep_their_digits(command: Command, tmp_path: Path) -> None:
    """A patch beside a number of 30 digits changes none of them, and a fraction stays a decimal."""
    raw = line("digits", b"123456789012.000000001", subject="", extra=1).replace(b'"extra": 1', b'"extra": 1e-400')
    key = letter(command, tmp_path, raw, "digits")
    mended = command.json("dlq", "fix", str(key), "--set", "subject=acme", "--reason", "r")
    assert '"tokens":123456789012.000000001' in mended["record"]
    assert '"extra":1E-400' in mended["record"]
    command.json("dlq", "replay", str(key))
    quantities = [item["quantity"] for item in command.line_items() if item["event_id"] == "digits"]
    assert quantities == ["123456789012.000000001"]


def test_rows_are_mended_by_their_columns(command: Command, tmp_path: Path) -> None:
    """CSV and Parquet by column, a log line as a whole; each in the stream, format and mapping it came in."""
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "id: {column: n}\ntype: {const: llm.completion}\nsubject: {column: who}\ntime: {column: at}\n"
        "data: {tokens: {column: used, type: decimal}}\n"
    )
    csv = tmp_path / "usage.csv"
    csv.write_text('n,who,at,used\nc-1,"a ""b"", c",2026-01-01T00:00:00Z,lots\n')
    parquet = tmp_path / "usage.parquet"
    columns = {"n": ["p-1"], "who": ["acme"], "at": ["2026-01-01T00:00:00Z"], "used": ["lots"]}
    pq.write_table(pa.table(columns), parquet)
    log = tmp_path / "web.log"
    log.write_text('acme - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" two hundred\n')
    for path, wanted in ((csv, "bad_field"), (parquet, "bad_field"), (log, "bad_record")):
        options = () if path == log else ("--map", str(mapping))
        assert command.json("ingest", path, *options, "--source", path.name)["dead_lettered"] == 1
        newest = command.json("dlq", "list", "--limit", "1")["dead_letters"][0]
        assert newest["reason"] == wanted
        key = str(newest["key"])
        if path == log:
            assert "--record" in command.refused("dlq", "fix", key, "--set", "status=200", "--reason", "r")
            whole = b'acme - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 12'
            command.json("dlq", "fix", key, "--record", "-", "--reason", "r", stdin=whole)
        else:
            assert "no column 'data.tokens'; it has" in command.refused(
                "dlq", "fix", key, "--set", "data.tokens=3", "--reason", "r"
            )
            command.json("dlq", "fix", key, "--set", "used=3", "--reason", "r")
        assert command.json("dlq", "replay", key)["replayed"] == 1, path
    accounts = {item["event_id"]: item["account"] for item in command.line_items()}
    assert accounts["c-1"] == 'a "b", c'
    assert command.json("verify", "--deep")["findings"] == []


def test_discarding_needs_a_reason_and_stays_in_sight(command: Command, tmp_path: Path) -> None:
    """By key or by code; nothing is deleted."""
    key = letter(command, tmp_path, line("conflict", 1) + b"x", "discarded")
    assert "reason" in command.refused("dlq", "discard", str(key), "--reason", " ")
    assert command.run("dlq", "discard", str(key)).code == 2
    done = command.json("dlq", "discard", "--code", "bad_json", "--reason", "test traffic", "--by", "ben")
    assert (done["discarded"], done["keys"]) == (1, [key])
    assert "already" in command.refused("dlq", "discard", str(key), "--reason", "again")
    shown = command.json("dlq", "show", str(key))
    assert (shown["state"], shown["resolution"]["by"], shown["resolution"]["reason"]) == (
        "discarded",
        "ben",
        "test traffic",
    )
    assert command.json("dlq", "list", "--code", "bad_json")["dead_letters"] == []
    assert [one["key"] for one in command.json("dlq", "list", "--state", "discarded")["dead_letters"]] == [key]
    assert "test traffic" in command.run("dlq", "show", str(key)).out


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (("replay",), 2, "name the dead letters"),
        (("replay", "1", "--all"), 2, "name the dead letters"),
        (("replay", "--all", "--code", "no_price"), 2, "name the dead letters"),
        (("replay", "--code", "nonsense"), 2, "nonsense"),
        (("replay", "--all", "--rate", "0/s"), 2, "no rate"),
        (("replay", "--all", "--rate", "fast"), 2, "no rate"),
        (("replay", "999999"), 1, "no dead letter 999999"),
        (("replay", "99999999999999999999"), 1, "no dead letter 99999999999999999999"),
        (("replay", "one"), 2, "integer"),
        (("show", "999999"), 1, "no dead letter"),
        (("discard", "--reason", "r"), 2, "name the dead letters"),
        (("discard", "999999", "--reason", "r"), 1, "no dead letter"),
        (("fix", "999999", "--set", "a=1", "--reason", "r"), 1, "no dead letter"),
        (("fix", "BAD", "--reason", "r"), 2, "nothing to change"),
        (("fix", "BAD", "--set", "data.tokens", "--reason", "r"), 2, "sets nothing"),
        (("fix", "BAD", "--set", "=5", "--reason", "r"), 2, "sets nothing"),
        (("fix", "BAD", "--set", "data..tokens=5", "--reason", "r"), 1, "no path"),
        (("fix", "BAD", "--set", "id.x=5", "--reason", "r"), 1, "not an object"),
        (("fix", "BAD", "--remove", "data.nothing", "--reason", "r"), 1, "not in this record"),
        (("fix", "BAD", "--record", "/nowhere/at/all", "--reason", "r"), 1, "cannot be read"),
        (("fix", "BAD", "--set", "data.tokens=5", "--reason", ""), 1, "needs a reason"),
        (("fix", "BAD", "--set", "data.tokens=5", "--reason", "r", "--by", ""), 2, "not a name"),
        (("list", "--since", "yesterday"), 2, "yesterday"),
        (("list", "--state", "gone"), 2, "gone"),
        (("list", "--namespace", "nobody"), 1, "no namespace"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_to_do(command: Command, bad: str, call: tuple[str, ...], code: int, said: str) -> None:
    """Nothing on stdout, a sentence on stderr, the exit code of the contract."""
    assert said in command.refused("dlq", *[bad if word == "BAD" else word for word in call], code=code)


def test_nothing_was_recorded_by_wrong_calls(command: Command, bad: str) -> None:
    """The letter they named is as it was."""
    assert command.json("dlq", "show", bad)["history"] == []


@pytest.mark.parametrize("record", [b"", b"  \n", b"\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_what_is_no_record_is_refused(command: Command, bad: str, record: bytes) -> None:
    """Empty, not UTF-8, too long."""
    answer = command.run("dlq", "fix", bad, "--record", "-", "--reason", "r", "--json", stdin=record)
    assert (answer.code, answer.out) == (1, "")
    assert "standard input" in answer.err


def test_what_waited_for_the_catalog_is_tried_again_by_itself(tmp_path: Path) -> None:
    """After a publish and at the end of an ingest, once the catalog has moved; --no-retry and LINEITEM_RETRY=0 leave it."""
    command = Command(tmp_path / "data")
    closed, opened = tmp_path / "closed.yaml", tmp_path / "open.yaml"
    closed.write_text(CATALOG.replace("defaults: {", "defaults: {open: false, "))
    opened.write_text(CATALOG)
    with EmbeddedServer(command.data_dir):
        command.json("catalog", "publish", closed)
        first = ndjson(tmp_path / "first.ndjson", [line("e-1"), line("e-2", "many")])
        counts = command.json("ingest", first)
        assert (counts["dead_lettered"], "retried" in counts) == (2, False)
        assert "retried" not in command.json("catalog", "publish", opened, "--no-retry")
        second = ndjson(tmp_path / "second.ndjson", [line("e-3")])
        assert "retried" not in command.json("ingest", second, env={"LINEITEM_RETRY": "0"})
        counts = command.json("ingest", second)
        assert (counts["received"], counts["duplicate"]) == (1, 1), "counts are those of the files"
        assert counts["retried"]["counts"]["itemized"] == 1
        assert counts["retried"]["by_reason"]["unknown_account"]["dead_letters"] == 1
        assert sorted(item["event_id"] for item in command.line_items()) == ["e-1", "e-3"]
        assert command.json("dlq", "list")["summary"]["open"] == 1
        assert command.json("verify", "--deep")["findings"] == []
