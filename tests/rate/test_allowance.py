"""Free first events: whatever the order and the batches, the result is that of sorting everything."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Price
from lineitem.rate.allowance import Admitted, Allowance, Members, admit
from lineitem.rate.folds import KEY_DTYPE
from lineitem.rate.price import compile_price
from tests.rate import event_oracle

TARGETS = 3
SCALE = 2


class Event(NamedTuple):
    """One event; ``value`` counts hundredths."""

    target: int
    time_us: int
    key: bytes
    value: int


VALUES = st.one_of(
    st.sampled_from([0, 50, 100, 250]),  # so that allowances are used up to the last unit
    st.integers(-300, 3000),
    st.just(0),
    st.integers(-(10**25), 10**25),
)
KEYS = st.binary(min_size=16, max_size=16)
EVENTS = st.lists(
    st.builds(Event, st.integers(0, TARGETS - 1), st.integers(0, 5), KEYS, VALUES),
    max_size=14,
    unique_by=lambda e: e.key,
)


def members(events: list[Event]) -> Members:
    """The columns of events."""
    value = np.empty(len(events), dtype=object)
    value[:] = [event.value for event in events]
    fits = all(abs(event.value) < 2**63 for event in events)
    return Members(
        np.array([event.target for event in events], dtype=np.int64),
        np.array([event.time_us for event in events], dtype=np.int64),
        np.frombuffer(b"".join(event.key for event in events), dtype=KEY_DTYPE),
        value.astype(np.int64) if fits else value,
    )


def rows(found: Members) -> list[Event]:
    """Back from columns."""
    columns = (found.target.tolist(), found.time_us.tolist(), found.key.tolist(), found.value.tolist())
    return [Event(*row) for row in zip(*columns, strict=True)]


def in_batches(allowance: Allowance, batches: list[list[Event]]) -> tuple[list[int], Members, list[Admitted]]:
    """The charge sums of all targets, and who is in the allowance, after these batches in this order."""
    sums, held, steps = [0] * TARGETS, Members.none(), []
    for batch in batches:
        step = admit(allowance, TARGETS, held, members(batch))
        for event, charge in zip(batch, step.charges.tolist(), strict=True):
            sums[event.target] += charge
        sums = [held_sum + rise for held_sum, rise in zip(sums, step.adjustment.tolist(), strict=True)]
        held = step.members
        steps.append(step)
    return sums, held, steps


@given(event_oracle.percentages(free=True), EVENTS, st.data())
def test_order_and_batches_change_nothing(price: Price, events: list[Event], data: st.DataObject) -> None:
    """Charges and adjustments of any batches of any order sum to the charges of the sorted whole, per target."""
    charge = compile_price(price, SCALE).charge
    assert charge is not None
    assert charge.allowance is not None
    shuffled = data.draw(st.permutations(events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    sums, held, _ = in_batches(charge.allowance, batches)
    inside = []
    for target in range(TARGETS):
        mine = sorted((e for e in events if e.target == target), key=lambda e: (e.time_us, e.key))
        charges, members_count = event_oracle.percentage_charges(price, [Fraction(e.value, 10**SCALE) for e in mine])
        assert Fraction(sums[target], 10**charge.scale) == sum(charges)
        inside += mine[:members_count]
    assert rows(held) == inside


@given(event_oracle.percentages(free=True), EVENTS, st.data())
def test_a_batch_in_order_charges_as_quoted(price: Price, events: list[Event], data: st.DataObject) -> None:
    """Each new event's charge is the one it has in the order of all events so far; only members' charges rise."""
    charge = compile_price(price, SCALE).charge
    assert charge is not None
    assert charge.allowance is not None
    cut = data.draw(st.integers(0, len(events)))
    _, _, steps = in_batches(charge.allowance, [events[:cut], events[cut:]])
    assert all(rise >= 0 for step in steps for rise in step.adjustment.tolist())
    for new, charged in zip(events[cut:], steps[1].charges.tolist(), strict=True):
        mine = sorted((e for e in events if e.target == new.target), key=lambda e: (e.time_us, e.key))
        charges, _ = event_oracle.percentage_charges(price, [Fraction(e.value, 10**SCALE) for e in mine])
        assert Fraction(charged, 10**charge.scale) == charges[mine.index(new)]


def test_a_late_event_pushes_another_out() -> None:
    """One free event: the later one was free until an earlier one came; then it is charged, and forgotten."""
    price = event_oracle.percentage(rate="0.1", free_events=1)
    charge = compile_price(price, SCALE).charge
    assert charge is not None
    assert charge.allowance is not None
    late, early = Event(0, 2, b"b" * 16, 1000), Event(0, 1, b"a" * 16, 500)
    sums, held, steps = in_batches(charge.allowance, [[late], [early]])
    assert [step.charges.tolist() for step in steps] == [[0], [0]]
    assert steps[1].adjustment.tolist() == [10**charge.scale, 0, 0]
    assert sums == [10**charge.scale, 0, 0]
    assert rows(held) == [early]


def test_state_is_bounded_by_what_is_inside() -> None:
    """A thousand events leave three members of an allowance of three."""
    price = event_oracle.percentage(rate="0.1", free_events=3)
    charge = compile_price(price, SCALE).charge
    assert charge is not None
    assert charge.allowance is not None
    events = [Event(0, 1000 - n, n.to_bytes(16, "big"), 100) for n in range(1000)]
    _, held, _ = in_batches(charge.allowance, [events[:500], events[500:]])
    assert rows(held) == events[:-4:-1]


def test_an_allowance_used_up_to_the_last_unit_is_closed() -> None:
    """Two free units, used exactly: both events are wholly free, without fee; the third, of value zero, pays the fee."""
    price = event_oracle.percentage(rate="0.1", per_event="1", free_units="2")
    charge = compile_price(price, SCALE).charge
    assert charge is not None
    assert charge.allowance is not None
    events = [Event(0, time, bytes(16), value) for time, value in enumerate([100, 100, 0])]
    sums, held, [step] = in_batches(charge.allowance, [events])
    assert step.charges.tolist() == [0, 0, 10**charge.scale]
    assert rows(held) == events[:2]
    assert sums[0] == 10**charge.scale
