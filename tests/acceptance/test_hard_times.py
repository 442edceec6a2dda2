"""The machine is in the way: no space, no right to write, two commands at once, Ctrl-C; each is told and survived."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson

EVENTS = 20_000


@pytest.fixture(scope="module")
def usage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of forty batches of 500."""
    path = tmp_path_factory.mktemp("usage") / "usage.ndjson"
    return ndjson(path, (line(f"u{n}", n, subject=f"account-{n % 50}") for n in range(EVENTS)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; the test is skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        subprocess.run(["umount", "--lazy", folder], check=True)


def _ledger(folder: Path) -> Command:
    catalog = folder / "catalog.yaml"
    catalog.write_text(CATALOG)
    command = Command(folder / "data")
    command.json("catalog", "publish", catalog)
    return command


def test_a_full_disk_stops_ingest_with_a_clear_error_and_loses_nothing(small_disk: Path, usage: Path) -> None:
    """No batch is there in part; when space returns the same command goes on, and the ledger is whole."""
    command = _ledger(small_disk)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - (6 << 20))
    for _ in range(2):
        said = command.refused("ingest", usage, "--batch-size", "500")
        assert "disk" in said
        assert "full" in said
        assert "Free space" in said
    ballast.unlink()
    answer = command.run("ingest", usage, "--batch-size", "500", "--json")
    assert answer.code == 0, answer
    verified = command.json("verify", "--deep")
    assert verified["findings"] == []
    assert verified["counts"]["received"] == verified["counts"]["itemized"] == EVENTS
    assert command.json("ingest", usage)["duplicate"] == EVENTS


def test_a_raw_segment_that_cannot_be_written_leaves_nothing(lineitem: Command, tmp_path: Path) -> None:
    """Records are kept before they are billed, so none is billed; no half segment stays to fill the disk further."""
    path = ndjson(tmp_path / "large.ndjson", [line("large", pad=os.urandom(100_000).hex())])
    said = lineitem.refused(
        "ingest", path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    )
    assert "raw segment" in said
    assert not [found for found in (lineitem.data_dir / "segments").rglob("*") if found.is_file()]
    assert lineitem.json("ingest", path)["itemized"] == 1


def test_a_new_ledger_on_a_full_disk_is_refused(small_disk: Path) -> None:
    """Before anything is made that would be in the way later."""
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - (2 << 20))
    command = Command(small_disk / "data")
    assert "full" in command.refused("verify")
    ballast.unlink()
    assert command.json("verify")["ok"]


def test_a_folder_that_cannot_be_written_is_named(small_disk: Path, usage: Path) -> None:
    """A ledger on a disk that went read-only, and a place where none can be made."""
    command = _ledger(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for arguments in (["verify"], ["ingest", usage], ["line-items"]):
        assert str(command.data_dir) in command.refused(*arguments)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert command.json("verify")["ok"]
    for place in ("/proc/ledger", "/dev/null", "/dev/null/ledger"):
        assert place in Command(Path(place)).refused("verify")


def test_commands_at_the_same_time_share_a_ledger(tmp_path: Path, usage: Path) -> None:
    """Two files, one of them twice, while the ledger is verified: every event once, each record accounted for."""
    command = _ledger(tmp_path)
    other = ndjson(tmp_path / "other.ndjson", (line(f"o{n}", 1, subject=f"account-{n % 50}") for n in range(3_000)))
    with ThreadPoolExecutor(4) as pool:
        running = [
            pool.submit(command.json, "ingest", path, "--batch-size", "1000", "--source", source)
            for path, source in ((usage, "usage"), (usage, "usage"), (other, "other"))
        ]
        checks = [pool.submit(command.json, "verify") for _ in range(2)]
        counts = [one.result() for one in running]
        assert [check.result()["findings"] for check in checks] == [[], []]
    assert sorted(one["itemized"] for one in counts) == [0, 3_000, EVENTS]
    assert sorted(one["duplicate"] for one in counts) == [0, 0, EVENTS]
    assert command.json("verify", "--deep")["findings"] == []


def test_ctrl_c_stops_between_batches_and_the_next_run_goes_on(tmp_path: Path, usage: Path) -> None:
    """Exit code 130, one sentence; the next run says where it goes on, and together they read each record once."""
    command = _ledger(tmp_path)
    with EmbeddedServer(command.data_dir):
        arguments = ("ingest", usage, "--batch-size", "500", "--json")
        process = command.start(*arguments, env={"LINEITEM_FAILPOINT": "stop:before_write@5"})
        _wait_until_stopped(process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, b"")
        assert err.strip().startswith(b"lineitem: stopped")
        assert b"Traceback" not in err
        answer = command.run(*arguments)
        assert "went on at position" in answer.err
        read = answer.document["itemized"]
        assert 0 < read <= EVENTS - 4 * 500
        verified = command.json("verify")
        assert (verified["findings"], verified["counts"]["itemized"]) == ([], EVENTS)


def _wait_until_stopped(process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    state = b""
    while state != b"T":
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
        with suppress(OSError):
            state = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
