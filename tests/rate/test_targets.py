"""amount = T(now) - posted: amounts telescope, batches may be cut anywhere, and a database agrees row by row."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation, Price, Tier
from lineitem.rate.folds import FoldItems, FoldState, fold
from lineitem.rate.price import compile_price
from lineitem.rate.targets import Base, fixed_due_nano, rate_running, total_nano
from tests.rate import oracle

TARGETS = 3
USAGE = st.lists(
    st.tuples(st.integers(0, TARGETS - 1), st.one_of(st.integers(-20, 50), st.integers(-(10**20), 10**20))), max_size=12
)
GRADUATED = Price(
    "p", "m", "graduated", "EUR",
    tiers=(
        Tier(Decimal(1_000), Decimal("0.0045678"), Decimal("1.5")),
        Tier(Decimal("2500.5"), Decimal("0.0033333333"), Decimal("0.25")),
        Tier(None, Decimal("0.00199999999")),
    ),
)  # fmt: skip
FLAT = Price("p", "m", "per_unit", "EUR", unit_price=Decimal("0.00123456789"))


def rate(price: Price, usage: list[tuple[int, int]], cuts: list[int], posted: list[int]) -> tuple[list[int], list[int]]:
    """Rate ``usage`` (target, added) in batches; returns what each target owed in sum, and has posted."""
    compiled = compile_price(price, 3)
    state, owed = FoldState.empty(TARGETS), [0] * TARGETS
    posted_now = np.array(posted, dtype=object)
    for start, end in zip([0, *cuts], [*cuts, len(usage)], strict=True):
        batch = sorted(usage[start:end], key=lambda row: row[0])
        target = np.array([row[0] for row in batch], dtype=np.int64)
        value = np.array([row[1] for row in batch], dtype=object)
        quantity, state = fold(Aggregation.SUM, FoldItems(target, value), state)
        amounts, posted_now = rate_running(compiled, target, quantity, posted_now)
        for index, amount in zip(target.tolist(), amounts.tolist(), strict=True):
            owed[index] += amount
    return owed, posted_now.tolist()


@given(oracle.prices(), USAGE, st.lists(st.integers(-(10**25), 10**25), min_size=TARGETS, max_size=TARGETS), st.data())
def test_amounts_telescope(price: Price, usage: list[tuple[int, int]], posted: list[int], data: st.DataObject) -> None:
    """However usage is ordered and cut into batches, what a target owes in sum is T(all of it) - posted."""
    shuffled = data.draw(st.permutations(usage))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(usage)), max_size=2)))
    owed, posted_after = rate(price, shuffled, cuts, posted)
    for index in range(TARGETS):
        added = [value for target, value in usage if target == index]
        total = oracle.amount_nano(price, sum(added), 3) if added else posted[index]
        assert owed[index] == total - posted[index]
        assert posted_after[index] == total


def test_the_fixed_due_is_t_at_zero() -> None:
    """The first flat price is due without usage; posted once, the first event owes only the rest."""
    compiled = compile_price(GRADUATED, 0)
    due = fixed_due_nano(compiled)
    assert due == 1_500_000_000
    amounts, posted = rate_running(compiled, np.array([0]), np.array([1]), np.array([due]))
    assert (amounts.tolist(), posted.tolist()) == ([4_567_800], [due + 4_567_800])


def test_a_change_at_the_edge_of_int64_does_not_wrap() -> None:
    """T and posted both fit int64, their difference does not."""
    compiled = compile_price(FLAT, 0)
    amounts, _ = rate_running(compiled, np.array([0]), np.array([10**12]), np.array([-(2**63)]))
    assert amounts.tolist() == [123456789 * 10**10 + 2**63]


@pytest.mark.parametrize(
    ("price", "sql"),
    [
        (FLAT, "quantity * 0.00123456789::DECIMAL(38,11)"),
        (
            GRADUATED,
            """1.5 + least(quantity, 1000) * 0.0045678::DECIMAL(38,7)
               + CASE WHEN quantity > 1000 THEN 0.25 ELSE 0 END
               + greatest(least(quantity, 2500.5) - 1000, 0) * 0.0033333333::DECIMAL(38,10)
               + greatest(quantity - 2500.5, 0) * 0.00199999999::DECIMAL(38,11)""",
        ),
    ],
)
def test_a_database_agrees(price: Price, sql: str) -> None:
    """DuckDB's DECIMAL(38,s), summing and pricing by itself, finds the same amount for every one of 20,000 rows."""
    random = np.random.default_rng(7)
    rows, targets = 20_000, 200
    target = np.sort(random.integers(0, targets, rows))
    value = random.integers(-20_000, 90_000, rows)
    quantity, _ = fold(Aggregation.SUM, FoldItems(target, value), FoldState.empty(targets))
    amounts, _ = rate_running(compile_price(price, 3), target, quantity, np.zeros(targets, dtype=np.int64))
    with duckdb.connect(config={"threads": 1}) as database:
        usage = pa.table({"n": np.arange(rows), "target": target, "value": value})
        database.register("usage", usage)
        expected = database.execute(
            f"""WITH running AS (
                    SELECT n, target, greatest(0, sum(value::DECIMAL(38,0)) OVER w) * 0.001::DECIMAL(38,3)
                        AS quantity FROM usage WINDOW w AS (PARTITION BY target ORDER BY n)),
                priced AS (SELECT n, target, round({sql}, 9) AS total FROM running)
                SELECT ((total - lag(total, 1, 0) OVER (PARTITION BY target ORDER BY n)) * 1000000000)::HUGEINT
                FROM priced ORDER BY n"""
        ).fetchall()
    assert amounts.tolist() == [row[0] for row in expected]


_QUANTITIES = st.one_of(st.integers(-20, 5000), st.integers(-(10**20), 10**20))


@given(oracle.prices(), st.lists(st.tuples(_QUANTITIES, _QUANTITIES, st.booleans()), min_size=1, max_size=5))
def test_two_parts_with_the_same_tiers_come_to_one(price: Price, parts: list[tuple[int, int, bool]]) -> None:
    """T of the part that goes on is F(Q1 + q) - F(Q1): with the one before it, exactly F of both, due and rounding too."""
    compiled = compile_price(price, 3)
    filled = np.array([has for *_, has in parts])
    before = np.array([one if has else 0 for one, _, has in parts], dtype=object)
    after = np.array([one for _, one, _ in parts], dtype=object)
    owed = total_nano(compiled, after, Base(before, filled))
    for index, (one, two, has) in enumerate(parts):
        whole = oracle.amount_nano(price, (one if has else 0) + two, 3)
        assert int(owed[index]) == whole - (oracle.amount_nano(price, one, 3) if has else 0)
    targets = np.arange(len(parts))
    amounts, posted = rate_running(compiled, targets, after, np.zeros(len(parts), dtype=np.int64), Base(before, filled))
    assert amounts.tolist() == posted.tolist() == owed.tolist()
