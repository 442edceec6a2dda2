"""Whom a flag of a flagd file chooses, asked through OpenFeature, and a canary that takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lineitem.adapters.flags.flagd import FlagFile
from lineitem.core.errors import InputError, UsageError

_VARIANTS = {"on": True, "off": False}
_NAMED = {"if": [{"in": [{"var": "targetingKey"}, ["a", "b"]]}, "on", "off"]}
_TENTH = {"fractional": [{"var": "targetingKey"}, ["on", 10], ["off", 90]]}


def _flag(**more: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": _VARIANTS, "defaultVariant": "off", **more}


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    texts = {"state": "ENABLED", "variants": {"on": "yes", "off": "no"}, "defaultVariant": "off"}
    found = {
        "named": _flag(targeting=_NAMED), "tenth": _flag(targeting=_TENTH), "all": _flag(defaultVariant="on"),
        "text": texts, "asleep": _flag(state="DISABLED"),
    }  # fmt: skip
    path.write_text(json.dumps({"flags": found}))
    return path


def test_a_flag_chooses_accounts(flags: Path) -> None:
    """By the account's id, which is the targeting key; without targeting its default counts for all."""
    assert FlagFile(flags, "named")(["a", "b", "c"]) == ["a", "b"]
    assert FlagFile(flags, "all")(["a", "c"]) == ["a", "c"]
    accounts = [f"account-{number}" for number in range(500)]
    chosen = FlagFile(flags, "tenth")(accounts)
    assert 20 <= len(chosen) <= 85
    assert FlagFile(flags, "tenth")(accounts) == chosen


def test_what_is_no_flag_is_refused(flags: Path, tmp_path: Path) -> None:
    """A file that is not there or no JSON, a flag it does not have, one that is not boolean."""
    with pytest.raises(InputError, match="has no flag 'other'; it has all, asleep, named"):
        FlagFile(flags, "other")(["a"])
    with pytest.raises(UsageError, match="'text' is not boolean"):
        FlagFile(flags, "text")(["a"])
    with pytest.raises(InputError, match="cannot be read"):
        FlagFile(tmp_path / "none.json", "named")(["a"])
    flags.write_text("flags: {}")
    with pytest.raises(InputError, match="is no JSON"):
        FlagFile(flags, "named")(["a"])
