"""Cuts the samples shipped in src/lineitem/data/samples from the full public files.

    python scripts/make_samples.py FOLDER_WITH_THE_FULL_FILES

Lines are copied byte for byte: real data stays as dirty as it was found.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "src" / "lineitem" / "data" / "samples"
RECORDS = 3000
# (name in the folder of full files, name shipped, header lines)
FILES = (("azure_llm_conversations.csv", "llm_conversations.csv", 1), ("apache_access.log", "access.log", 0))


def main() -> None:
    """Write both samples."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for full, shipped, header_lines in FILES:
        with (Path(sys.argv[1]) / full).open("rb") as source:
            lines = list(islice(source, header_lines + RECORDS))
        (SAMPLES / shipped).write_bytes(b"".join(lines))
        print(f"{shipped}: {len(lines) - header_lines} records")


if __name__ == "__main__":
    main()
