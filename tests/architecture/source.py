"""The source tree as the architecture tests see it: tracked files, parsed modules, rooms."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lineitem"


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is, or would be, committed: tracked ones and new ones that .gitignore does not name."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(sorted(ROOT / name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file()))


@cache
def modules() -> dict[Path, ast.Module]:
    """Every Python module of the package, parsed."""
    return {path: ast.parse(path.read_bytes(), filename=str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: Path) -> str:
    """The room a module of the package lies in: ``src/lineitem/rate/models/flat.py -> "rate"``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def shown(path: Path, line: int | None = None) -> str:
    """A path as people click it."""
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))
