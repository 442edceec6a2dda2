"""A generator in a process of its own: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lineitem.core.errors import EnvironmentProblem, InputError
from lineitem.kit.ahead import ahead


def counting(count: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers with some weight, so that the pipe fills."""
    for number in range(count):
        yield number, np.full(size, number)


def failing(text: str) -> Iterator[int]:
    """One item, then an error for people."""
    yield 1
    raise InputError(text, where="row 7", do="Mend it.")


def own_pid(_: object) -> Iterator[int]:
    """The child's process id, for ever."""
    while True:
        yield os.getpid()


def first_bytes(descriptor: int) -> Iterator[bytes]:
    """What an inherited file begins with."""
    with open(descriptor, "rb") as file:
        yield file.read(5)


def chatty() -> Iterator[int]:
    """Prints between its items."""
    print("not a frame")
    yield 1
    print("nor this")


def unpicklable() -> Iterator[object]:
    """Raises what no process can hand to another."""

    class Local(Exception):
        pass

    yield 1
    raise Local("only here")


def test_items_arrive_whole_and_in_order() -> None:
    """Items larger than a pipe's buffer come as they were made."""
    with ahead(counting, 5, 300_000) as items:
        found = list(items)
    assert [number for number, _ in found] == [0, 1, 2, 3, 4]
    assert all((values == number).all() and len(values) == 300_000 for number, values in found)


def test_an_error_keeps_what_it_says() -> None:
    """What, where and what to do survive the way between the processes."""
    with ahead(failing, "a bad row") as items:
        assert next(items) == 1
        with pytest.raises(InputError) as caught:
            next(items)
    assert (caught.value.what, caught.value.where, caught.value.do) == ("a bad row", "row 7", "Mend it.")


def test_an_error_that_cannot_travel_is_told() -> None:
    """Its type and text come as a RuntimeError."""
    with ahead(unpicklable) as items:
        assert next(items) == 1
        with pytest.raises(RuntimeError, match="Local: only here"):
            next(items)


def test_leaving_early_ends_the_child() -> None:
    """No process is left behind, whatever it was doing."""
    with ahead(own_pid, bytes(10)) as items:
        pid = next(items)
        assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_child_is_named() -> None:
    """SIGKILL (an out-of-memory killer) is an error that says what to do, never a silent end of the items."""
    with ahead(own_pid, b"") as items:
        os.kill(next(items), signal.SIGKILL)
        with pytest.raises(EnvironmentProblem, match="killed by SIGKILL"):
            for _ in items:
                pass


def test_an_open_file_goes_along(tmp_path: Path) -> None:
    """The child reads the same file, even when its name is gone."""
    path = tmp_path / "usage"
    path.write_bytes(b"hello world")
    with path.open("rb") as file:
        path.unlink()
        with ahead(first_bytes, file.fileno(), descriptors=[file.fileno()]) as items:
            assert list(items) == [b"hello"]


def test_printing_does_not_disturb_the_items(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output of the child goes to standard error."""
    with ahead(chatty) as items:
        assert list(items) == [1]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.split("\n")[:2] == ["not a frame", "nor this"]


def test_a_dead_parent_ends_the_child(tmp_path: Path) -> None:
    """Killed with -9, the parent leaves no process that computes for nobody: the child's pipe is broken."""
    script = (
        "from tests.integration.test_ahead import own_pid\nfrom lineitem.kit.ahead import ahead\nimport os, signal\n"
        "with ahead(own_pid, b'') as items:\n    print(next(items), flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
        import select

        assert select.select([descriptor], [], [], 60)[0], "the child lives on"
    except ProcessLookupError:
        pass  # it has ended already
    finally:
        if descriptor is not None:
            os.close(descriptor)
