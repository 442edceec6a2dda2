"""The ``buf`` program, which the package ``buf-bin`` brings: compiles .proto texts and compares what came of them.

It runs when a schema is registered, checked or first used in a process, never for an event. Nothing is fetched.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lineitem.core.errors import EnvironmentProblem
from lineitem.kit.extras import to_install

_SECONDS_MAX = 30
_RULES = {
    "version": "v1",
    "breaking": {
        # What keeps both the bytes and the names that meters read; a field may go, as it may in the other formats.
        "use": ["WIRE_JSON", "FIELD_SAME_NAME"],
        "except": [
            "FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED", "FIELD_NO_DELETE_UNLESS_NAME_RESERVED",
            "RESERVED_MESSAGE_NO_DELETE", "RESERVED_ENUM_NO_DELETE",
        ],
    },
}  # fmt: skip


def _program() -> str:
    found = shutil.which("buf", path=sysconfig.get_path("scripts")) or shutil.which("buf")
    if found is None:
        raise EnvironmentProblem("the program buf is not there", do=to_install("schemas"))
    return found


def _run(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, what it says line by line, and the rest of what it says."""
    environment = {"HOME": str(folder), "BUF_CACHE_DIR": str(folder), "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run(
            [_program(), *arguments, "--error-format", "json"],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, [], f"buf took longer than {_SECONDS_MAX} s"
    said, rest = [], []
    for line in (done.stdout + done.stderr).splitlines():
        try:
            said.append(json.loads(line))
        except ValueError:
            rest.append(line)
    return done.returncode, said, "\n".join(rest).strip()


def compiled(name: str, files: dict[str, str]) -> tuple[bytes, list[str]]:
    """A FileDescriptorSet of ``files`` (path -> text) and all they import, or what is wrong, the line first."""
    with TemporaryDirectory(prefix="lineitem-buf-") as made:
        folder = Path(made)
        for path, text in files.items():
            at = folder / "in" / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text, encoding="utf-8")
        code, said, rest = _run(folder, "build", "in", "-o", "out.binpb", "--as-file-descriptor-set")
        if code == 0:
            return (folder / "out.binpb").read_bytes(), []
        found = [_place(name, one) + str(one.get("message", "")) for one in said]
        return b"", found or [rest or "buf could not compile it"]


def _place(name: str, one: dict[str, Any]) -> str:
    path = str(one.get("path", "")).removeprefix("in/")
    line = f"line {one.get('start_line', 1)}, column {one.get('start_column', 1)}: "
    return line if path in (name, "") else f"{path}, {line}"


def broken(reader: bytes, writer: bytes) -> list[str]:
    """What of ``reader`` breaks what ``writer`` wrote; both FileDescriptorSets."""
    with TemporaryDirectory(prefix="lineitem-buf-") as made:
        folder = Path(made)
        (folder / "reader.binpb").write_bytes(reader)
        (folder / "writer.binpb").write_bytes(writer)
        code, said, rest = _run(
            folder, "breaking", "reader.binpb", "--against", "writer.binpb", "--exclude-imports",
            "--config", json.dumps(_RULES),
        )  # fmt: skip
        if code and not said:
            return [rest or "buf could not compare them"]
        return [str(one["message"]).partition(". See https://")[0] for one in said]
