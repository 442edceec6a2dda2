"""What becomes of events that were seen before: duplicates, conflicts, and what a defect does not shadow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject
from lineitem.ingest.identity import Fate, repeats_inside, settle

Seen = tuple[int, int, bool]
"""Identity, content, whether it can be billed."""
SEEN = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4).map(bool)), max_size=20)


def _key(number: int) -> bytes:
    return bytes(8) + number.to_bytes(8, "big")  # the first halves collide on purpose: only the whole key decides


def _digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fate_of(seen: list[Seen], known: dict[int, int]) -> Fate:
    count = len(seen)
    names = [str(identity) for identity, _, _ in seen]
    events = EventColumns(
        np.arange(count, dtype=np.int32) * 2, names, ["s"] * count, ["t"] * count, ["a"] * count,
        np.zeros(count, dtype=np.int64), [{}] * count, [None] * count,
        np.array([_key(identity) for identity, _, _ in seen], dtype="V16"),
        np.array([_digest(content) for _, content, _ in seen], dtype="V16"),
    )  # fmt: skip
    valid = np.array([good for _, _, good in seen], dtype=np.bool_)
    invalid = [
        Reject(2 * row, Reason.BAD_VALUE, "bad", _key(identity), _digest(content))
        for row, (identity, content, good) in enumerate(seen)
        if not good
    ]
    stored = {_key(identity): _digest(content) for identity, content in known.items()}
    return settle(events, repeats_inside(events, valid), invalid, stored)


@given(SEEN, st.dictionaries(st.integers(0, 5), st.integers(0, 2), max_size=4))
def test_one_after_the_other(seen: list[Seen], known: dict[int, int]) -> None:
    """A whole batch at once comes to what its events would one by one."""
    accepted, duplicates, set_aside, stands = [], 0, [], dict(known)
    for row, (identity, content, good) in enumerate(seen):
        first_here = identity not in stands
        if not good:
            # A defect found twice is a duplicate only of what the ledger holds, not of a neighbour that was good.
            if known.get(identity) == content:
                duplicates += 1
            else:
                set_aside.append((2 * row, Reason.BAD_VALUE))
        elif first_here:
            stands[identity] = content
            accepted.append(row)
        elif stands[identity] == content:
            duplicates += 1
        else:
            set_aside.append((2 * row, Reason.CONFLICT))
    fate = fate_of(seen, known)
    assert np.flatnonzero(fate.accepted).tolist() == accepted
    assert sorted((reject.ordinal, reject.reason) for reject in fate.rejects) == set_aside
    assert fate.duplicates == duplicates
    assert int(fate.accepted.sum()) + fate.duplicates + len(fate.rejects) == len(seen)


def test_a_defect_does_not_shadow_the_corrected_event() -> None:
    """The first record of an identity cannot be billed, the second can: the second is accepted."""
    fate = fate_of([(1, 0, False), (1, 1, True)], {})
    assert fate.accepted.tolist() == [False, True]
    assert [reject.reason for reject in fate.rejects] == [Reason.BAD_VALUE]


def test_a_conflict_names_what_it_is_about() -> None:
    """A person reads which event of which source it was."""
    fate = fate_of([(1, 0, True), (1, 1, True)], {})
    assert "'1'" in fate.rejects[0].detail
    assert (fate.rejects[0].key, fate.rejects[0].digest) == (_key(1), _digest(1))
