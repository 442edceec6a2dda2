"""The runner of documentation blocks itself: what it picks up, and that a broken promise is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, runnable_blocks
from tests.docs.test_readme import check_output

PAGE = """\
```bash
never run
```
```bash run
echo one
```
```text output
one
```
```bash run
echo two
```
"""


def test_only_tagged_blocks_are_run(tmp_path: Path) -> None:
    """A plain `bash` block is an illustration; an output block belongs to the run block before it."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert runnable_blocks(page) == [Block(4, "echo one\n", "text", "one\n"), Block(10, "echo two\n")]


def test_an_output_block_needs_a_run_block(tmp_path: Path) -> None:
    """A promise that nothing fulfils is a mistake of the page."""
    page = tmp_path / "page.md"
    page.write_text("```json output\n{}\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:1"):
        runnable_blocks(page)


@pytest.mark.parametrize(
    ("kind", "promised", "printed"),
    [
        ("json", '{"a": {"b": ["1"]}}', 'done\n{"a": {"b": ["1"], "c": 2}}\n'),
        ("json", '{"a": 1}', '{"a": 0}\n{"a": 1,\n "b": [\n2]}\n'),
        ("text", "one\nthree", "one\ntwo\nthree\n"),
    ],
)
def test_a_kept_promise_passes(kind: str, promised: str, printed: str) -> None:
    """More may be printed than the page shows."""
    block = Block(1, "", kind, promised)
    check_output(block, printed)
    assert block.output == promised


@pytest.mark.parametrize(
    ("kind", "promised", "printed"),
    [
        ("json", '{"a": "5"}', '{"a": 5}'),
        ("json", '{"a": []}', '{"a": [1]}'),
        ("json", '{"a": 1}', "nothing of the kind"),
        ("text", "one\ntwo", "two\none\n"),
    ],
)
def test_a_broken_promise_fails(kind: str, promised: str, printed: str) -> None:
    """Another value, a longer list, no document at all, lines in another order."""
    with pytest.raises(AssertionError):
        check_output(Block(1, "", kind, promised), printed)
