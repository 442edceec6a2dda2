"""``lineitem doctor``: is everything in order, and what to do where it is not."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import click

from lineitem.cli.output import Scope, ledger_command, print_json, table

if TYPE_CHECKING:
    from lineitem.app import App
    from lineitem.ledger.health import Check

_FREE_BYTES_MIN = 1 << 30


@click.command()
@click.option("--fix", is_flag=True, help="Remove raw segments whose batch never committed.")
@ledger_command
def doctor(fix: bool, scope: Scope) -> int:
    """Check the machine, the database and the data folder, and say what to do. Exit code 1 when something is wrong."""
    from lineitem.ledger.gaps import everywhere
    from lineitem.ledger.health import database_checks
    from lineitem.ledger.letters import depth

    with scope.app() as app:
        now_us = app.clock.now_us()
        checks = [*_folder_checks(app), *database_checks(app.control, now_us), *_segment_checks(app, fix)]
        waiting, open_gaps = depth(app.control, now_us), everywhere(app.control)
    if scope.as_json:
        print_json(
            {
                "ok": all(check.ok for check in checks),
                "checks": [{"check": c.name, "ok": c.ok, "seen": c.seen, "do": "" if c.ok else c.do} for c in checks],
                "dead_letters": waiting,
                "gaps": open_gaps,
            }
        )
    else:
        rows = [("ok" if c.ok else "WRONG", c.name, c.seen, "" if c.ok else c.do) for c in checks]
        table("", ["", "check", "seen", "what to do"], rows)
    return int(not all(check.ok for check in checks))


def _folder_checks(app: App) -> list[Check]:
    from lineitem.ledger.health import Check

    folder, checkpoints = app.config.data_dir, app.config.checkpoint_dir
    free = shutil.disk_usage(folder).free
    key = app.notary.key_path
    return [
        Check("data folder", os.access(folder, os.W_OK), str(folder), "Make it writable for this account."),
        Check("free disk", free >= _FREE_BYTES_MIN, f"{free / (1 << 30):.1f} GiB", "Free space before it runs out."),
        Check(
            "checkpoint key",
            not key.exists() or not key.stat().st_mode & 0o077,
            str(key),
            "Readable by others: chmod 600, then sign with a new key.",
        ),
        Check(
            "checkpoints",
            True,
            f"{checkpoints} (inside the data folder: whoever can alter the ledger can alter them)"
            if checkpoints.is_relative_to(folder)
            else str(checkpoints),
        ),
    ]


def _segment_checks(app: App, fix: bool) -> list[Check]:
    from lineitem.ledger.health import Check, missing_segments, orphan_segments

    missing = missing_segments(app.control, app.segments)
    orphans = orphan_segments(app.control, app.segments)
    removed = 0
    if fix:
        for name in orphans:
            app.segments.remove(name)
        removed, orphans = len(orphans), []
    return [
        Check("raw segments", not missing, f"{len(missing)} missing" if missing else "all there", "Restore them."),
        Check(
            "orphan segments",
            not orphans,
            f"{removed} removed" if removed else f"{len(orphans)}",
            "Left by a crash before its commit: `lineitem doctor --fix` removes them.",
        ),
    ]
