"""A generator run in a process of its own: its items arrive in order, one of them being made while another is used.

Python's interpreter lock lets one thread compute at a time, so a second core is of use only to a second process. The
child is started afresh (not forked: threads and connections would come along broken), told what to run through its
standard input, and answers with pickled frames on its standard output. A full pipe holds it back, so it is never more
than one item ahead. It ends when the parent closes the pipe or dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

from lineitem.core.errors import EnvironmentProblem

Item = TypeVar("Item")

_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_STOP_S = 10
_ITEM, _ERROR, _END = range(3)


@contextmanager
def ahead(
    generator: Callable[..., Iterator[Item]], *arguments: Any, descriptors: Sequence[int] = ()
) -> Iterator[Iterator[Item]]:
    """What ``generator(*arguments)`` yields, made in another process, which starts at once and ends with the context.

    ``generator`` is a function of a module, arguments and items can be pickled; ``descriptors`` are open files the
    child keeps under the same numbers. An exception of the generator is raised by the iterator, EnvironmentProblem when
    the child is killed.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", "from lineitem.kit.ahead import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if _SET_PIPE_SIZE is not None:
            with contextlib.suppress(OSError):  # the system's limit is lower: smaller pieces
                fcntl.fcntl(child.stdout, _SET_PIPE_SIZE, _PIPE_BYTES)
        with contextlib.suppress(BrokenPipeError):  # it is dead already; reading says how it ended
            _send(child.stdin, pickle.dumps((generator, arguments)))
        yield _items(child, child.stdout)
    finally:
        child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:  # stopped (SIGSTOP), or stuck in the kernel
            child.kill()
            child.wait()


def _items(child: subprocess.Popen[bytes], answers: IO[bytes]) -> Iterator[Any]:
    while True:
        kind, value = _receive(child, answers)
        if kind == _END:
            return
        if kind == _ERROR:
            raise value
        yield value


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(len(content).to_bytes(8, "big"))
    pipe.write(content)
    pipe.flush()


def _receive(child: subprocess.Popen[bytes], pipe: IO[bytes]) -> tuple[int, Any]:
    length = int.from_bytes(pipe.read(8), "big")
    content = pipe.read(length)
    if not length or len(content) < length:
        raise EnvironmentProblem(
            f"the process that works ahead ended ({_how(child.wait())})",
            do="Run the same command again: it goes on where it stopped. If it was killed for memory, use smaller batches.",
        )
    answer: tuple[int, Any] = pickle.loads(content)  # noqa: S301 (written by our own child)
    return answer


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def serve() -> None:
    """The child: run what standard input names, answer on what was standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing that prints may get between the frames
    length = int.from_bytes(sys.stdin.buffer.read(8), "big")
    with contextlib.suppress(BrokenPipeError):  # the parent has gone, or wants no more
        job = sys.stdin.buffer.read(length)
        generator, arguments = pickle.loads(job)  # noqa: S301 (written by our own parent)
        for kind, value in _answers(generator(*arguments)):
            content = pickle.dumps((kind, value), protocol=5)
            view = memoryview(len(content).to_bytes(8, "big") + content)
            while view:
                view = view[answers.write(view) :]


def _answers(items: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    try:
        for item in items:
            yield _ITEM, item
    except Exception as error:  # whatever it is, it is the parent's to handle
        yield _ERROR, _portable(error)
        return
    yield _END, None


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot be pickled one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    except Exception:  # pickling calls code of the error's class, which may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
