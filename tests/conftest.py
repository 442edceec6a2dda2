"""What all tests share: how hard hypothesis searches, and which folders do I/O."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
IO_FOLDERS = frozenset({"acceptance", "architecture", "docs", "faults", "integration"})

# `ci` gives every run the same examples, so that a red build is red again; `dev` looks for new ones.
# A case that `dev` finds is committed with @example, never left to chance.
settings.register_profile(
    "ci", max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", max_examples=300, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``io`` what lies in a folder that does I/O; everything else must run without."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in IO_FOLDERS:
            item.add_marker(pytest.mark.io)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the source tree."""
    return TESTS.parent
