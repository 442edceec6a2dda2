"""Documents cannot rot: every block tagged `bash run` is run, and what it promises to print is compared.

A page is one story: its blocks run in order in one empty folder, with the project's commands on PATH. What a block
tagged `json output` says is in the last JSON document printed; the lines of a `text output` block appear in order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.docs.blocks import Block, runnable_blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
STORIES = [page for page in PAGES if runnable_blocks(page)]
BLOCK_SECONDS_MAX = 120


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LINEITEM_")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "HOME": str(folder),
        "COLUMNS": "120",
    }


def _contains(whole: Any, part: Any) -> bool:
    """Whether everything ``part`` says is in ``whole``; a list must be matched item by item."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        same_length = isinstance(whole, list) and len(whole) == len(part)
        return same_length and all(_contains(a, b) for a, b in zip(whole, part, strict=True))
    return bool(whole == part)


def _last_json(printed: str) -> Any:
    """The last JSON document of ``printed``, on one line or over many."""
    starts = [match.start() for match in re.finditer(r"^[{\[]", printed, re.MULTILINE)]
    assert starts, f"no JSON was printed:\n{printed}"
    return json.loads(printed[starts[-1] :])


def check_output(block: Block, printed: str) -> None:
    """Assert that ``printed`` holds what the page promises."""
    if block.output_kind == "json":
        promised, got = json.loads(block.output), _last_json(printed)
        assert _contains(got, promised), f"promised {promised}\nprinted {got}"
    position = 0
    for line in block.output.splitlines() if block.output_kind == "text" else []:
        found = printed.find(line.strip(), position)
        assert found >= 0, f"not printed, or not in this order: {line!r}\nprinted:\n{printed}"
        position = found + len(line.strip())


@pytest.mark.parametrize("page", STORIES, ids=lambda page: str(page.relative_to(ROOT)))
def test_story_runs_as_written(page: Path, tmp_path: Path) -> None:
    """Each block ends with 0 and prints what the page says it prints.

    The test is a user of the page's ledger from beginning to end, which saves a start of its server per command.
    """
    needs_ledger = page.parent.name != "models"  # a price model's page only quotes
    with EmbeddedServer(tmp_path / ".lineitem") if needs_ledger else nullcontext():
        tell(page, runnable_blocks(page), tmp_path, {})


def tell(page: Path, blocks: Sequence[Block], folder: Path, environment: Mapping[str, str]) -> None:
    """Run the blocks of a page in a folder, one after the other, and compare what they print."""
    for block in blocks:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.script],
            cwd=folder,
            env={**_environment(folder), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS_MAX,
            check=False,
        )
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert run.returncode == 0, f"{where} ended with {run.returncode}\n{run.stdout}\n{run.stderr}"
        check_output(block, run.stdout)


def test_the_readme_is_a_story() -> None:
    """The README's tour is among what is run."""
    assert ROOT / "README.md" in STORIES
