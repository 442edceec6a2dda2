"""Finds the blocks of a Markdown page that are meant to be run, and the output they promise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Two or more blanks in front would be a nested list; our pages keep runnable blocks at the margin.
_FENCE = re.compile(r"^```(?P<tags>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One ``bash run`` block. ``output`` holds the text of the ``json output`` or ``text output`` block after it."""

    line: int
    script: str
    output_kind: str = ""
    output: str = ""


def runnable_blocks(page: Path, tag: str = "run") -> list[Block]:
    """The blocks of ``page`` tagged ``bash run`` (or another ``tag``) in order. Raises ValueError for an output block that
    follows none; one behind a block with another tag belongs to that."""
    text = page.read_text()
    blocks: list[Block] = []
    ours = True
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        match fence["tags"].split():
            case ["bash", found]:
                ours = found == tag
                if ours:
                    blocks.append(Block(line, fence["body"]))
            case [("json" | "text") as kind, "output"] if ours:
                if not blocks or blocks[-1].output_kind:
                    raise ValueError(f"{page.name}:{line}: an output block that no `bash {tag}` block precedes")
                blocks[-1] = Block(blocks[-1].line, blocks[-1].script, kind, fence["body"])
    return blocks
