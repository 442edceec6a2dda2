"""The rooms hold: imports only look up, tables stay with their room, no room is empty and no file too long."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.source import PACKAGE, ROOT, modules, room, shown

LINES_MAX = 600
# Rows of the ledger are fixed-width: repeated text is a key into these, and a query that shows text reads it there.
DICTIONARIES = frozenset(
    {"catalog.account", "catalog.namespace", "catalog.price", "catalog.price_version", "catalog.tag_set"}
)
# The auditor: compares what other rooms keep with what the chain recorded, and may read them all, never write.
AUDIT = "ledger/sql/verify.sql"
# What follows the verb is a table unless a parenthesis makes it a function, which other rooms may call.
TABLE = re.compile(r"\b(from|join|into|update|copy|truncate|table)\s+(?:only\s+)?([a-z_]+)\.([a-z_]+)\b(?!\s*\()")


def test_import_contracts_hold() -> None:
    """Every contract of pyproject.toml is kept (what `make check` runs too; here its report is the failure)."""
    lint_imports = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint_imports, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_sql_stays_in_its_room() -> None:
    """A room's queries write its own tables only, and read nobody else's but the catalog's dictionaries; verify reads all."""
    strayed = []
    schemas = {path.parent.parent.name for path in PACKAGE.glob("*/sql/*.sql")}
    for path in sorted(PACKAGE.glob("*/sql/*.sql")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for verb, schema, table in TABLE.findall(line.partition("--")[0].lower()):
                reads = verb in {"from", "join"}
                allowed = reads and (f"{schema}.{table}" in DICTIONARIES or path.as_posix().endswith(AUDIT))
                if schema in schemas - {room(path)} and not allowed:
                    strayed.append(f"{shown(path, number)} {verb} {schema}.{table}")
    assert not strayed, "call a function of the room that owns the table"


def test_no_empty_room() -> None:
    """A room exists when it has something to hold."""
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    empty = [shown(path) for path in rooms if not any(other.name != "__init__.py" for other in path.rglob("*.py"))]
    assert not empty


def test_files_stay_readable() -> None:
    """No source file is longer than 600 lines: that is two files."""
    lengths = {shown(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}
