"""The pages hold together: links lead somewhere, generated pages are up to date, nothing is orphaned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lineitem.catalog.expression import check_filter, parse_value
from lineitem.catalog.expression_words import ExpressionError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


def _targets(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target in _LINK.findall(page.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file or folder of the repository."""
    missing = [str(target.relative_to(ROOT)) for target in _targets(page) if not target.exists()]
    assert not missing


def test_every_page_can_be_reached() -> None:
    """Following links from the README reaches every page under docs/."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [target for target in _targets(page) if target.suffix == ".md" and target.exists()]
    assert [str(page.relative_to(ROOT)) for page in DOCS.rglob("*.md") if page not in reached] == []


def test_generated_pages_are_up_to_date() -> None:
    """What `make reference` would write is what is committed."""
    run = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_expressions_can_be_published() -> None:
    """Every value and filter that a page shows in quotes is one that `catalog check` accepts."""
    shown = [found for page in PAGES for found in re.findall(r"\b(value|filter): '([^'\n]+)'", page.read_text())]
    refused = []
    for kind, text in shown:
        try:
            (parse_value if kind == "value" else check_filter)(text)
        except ExpressionError as error:
            refused.append(f"{text}: {error}")
    assert refused == []
    assert len(shown) > 5, "the reference shows expressions"
