"""What all tests share: how hard hypothesis searches, which folders do I/O, and how many tests run side by side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
IO_FOLDERS = frozenset({"acceptance", "architecture", "docs", "faults", "integration"})
LONGEST = (
    "test_tamper.py", "test_readme.py", "test_faults.py", "test_races.py", "test_laws.py", "test_kafka.py", "test_dlq.py",
    "test_fx.py", "test_hard_times.py", "test_pools.py", "test_letters.py", "test_mid_period.py", "test_lifecycle.py",
    "test_watched.py",
)  # fmt: skip
"""Files that take longest, which workers are given first: one that is begun last keeps one worker while the others idle."""
WORKERS_MAX = 4
"""Every worker of the io half runs a PostgreSQL of its own, and what it starts needs a core too."""

# `ci` gives every run the same examples, so that a red build is red again; `quick` a few of them for the inner loop; `dev`
# looks for new ones.
# A case that `dev` finds is committed with @example, never left to chance.
settings.register_profile(
    "ci", max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=4)
settings.register_profile("dev", max_examples=300, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker per core for the whole suite; none where files or folders are named, so that `-s` and a debugger work."""
    cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, WORKERS_MAX)
    return cores if cores > 1 and config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave unread the folders of which `-m io` or `-m "not io"` would deselect every test."""
    wanted = {"io": True, "not io": False}.get(config.option.markexpr)
    if wanted is None or collection_path.parent != TESTS or not collection_path.is_dir():
        return None
    return True if wanted is not (collection_path.name in IO_FOLDERS) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``io`` what lies in a folder that does I/O; everything else must run without."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in IO_FOLDERS:
            item.add_marker(pytest.mark.io)
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the source tree."""
    return TESTS.parent
