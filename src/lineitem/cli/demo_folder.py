"""The folder a demo works in: only ever a new one, an empty one, or one an earlier demo made."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from lineitem.core.errors import EnvironmentProblem, Refused

MARKER = "MADE-BY-LINEITEM-DEMO.txt"
_MARKER_TEXT = "`lineitem demo` made this folder and removes it when it runs again with the same --data-dir.\n"
FILES = (
    "catalogs/sample.yaml",
    "maps/azure-llm.yaml",
    "maps/access-log.yaml",
    "samples/llm_conversations.csv",
    "samples/access.log",
    "samples/events.ndjson",
    "samples/ORIGIN.md",
)
"""What is copied out of the package, so that people can look at it, change it and send it again."""


def make(folder: Path) -> bool:
    """Make the demo's folder with its marker and input files; whether an earlier demo had to go for it.

    Raises Refused for a folder that is somebody else's or in use, EnvironmentProblem when it cannot be written.
    """
    try:
        earlier = _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(_MARKER_TEXT)
        shipped = resources.files("lineitem") / "data"
        for name in FILES:
            target = folder / "input" / Path(name).name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((shipped / name).read_bytes())
    except OSError as error:
        raise EnvironmentProblem(
            f"the folder cannot be used: {error.strerror}", where=str(folder), do="Name another one with --data-dir."
        ) from error
    return earlier


def _clear(folder: Path) -> bool:
    """Remove an earlier demo; whether there was one."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise Refused("is a file", where=str(folder), do="Name a folder with --data-dir.")
    if not any(folder.iterdir()):
        return False
    if not (folder / MARKER).is_file():
        raise Refused(
            "the folder is not empty, and no demo made it: it stays as it is",
            where=str(folder),
            do="Name a new folder: lineitem demo --data-dir NEW_FOLDER",
        )
    if _in_use(folder):
        raise Refused(
            "another lineitem command is using this demo's ledger",
            where=str(folder),
            do="Let it end, or name a new folder: lineitem demo --data-dir NEW_FOLDER",
        )
    shutil.rmtree(folder)
    return True


def _in_use(folder: Path) -> bool:
    """Whether a process uses the folder's database: each holds a shared lock as long as it lives."""
    import fcntl

    from lineitem.kit.embedded_folder import Layout, try_lock

    lock = Layout(folder / "postgres").lock("users")
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        return not try_lock(file.fileno(), fcntl.LOCK_EX)
