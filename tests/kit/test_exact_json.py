"""JSON with exact numbers, and what is refused as none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from lineitem.core.errors import InputError
from lineitem.core.exact_json import exact_json
from lineitem.rate.quote import decode
from lineitem.schemas.formats._json import parsed
from lineitem.schemas.model import BadSchema

BEYOND = '{"maximum": 1e99999999999999999999}'
"""An exponent that no Decimal holds."""


def test_numbers_keep_their_digits() -> None:
    """A fraction is never a binary float; an integer may be asked for as a Decimal, too."""
    assert exact_json("[0.1, 1e2, 18446744073709551617]") == [Decimal("0.1"), Decimal("1E+2"), 2**64 + 1]
    (number,) = exact_json("[7]", integer=Decimal)
    assert isinstance(number, Decimal)


@pytest.mark.parametrize("text", ["[NaN]", "[-Infinity]", "[1", BEYOND])
def test_what_is_no_json(text: str) -> None:
    """And a number that nothing here can hold."""
    with pytest.raises(ValueError, match=r"JSON|Expecting|exponent"):
        exact_json(text)


def test_a_key_twice() -> None:
    """Is an error where it is asked for, and said by name."""
    assert exact_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="the key 'a' stands twice"):
        exact_json('{"a": 1, "a": 2}', unique_keys=True)


def test_an_exponent_beyond_all_bounds_is_said_not_raised() -> None:
    """It ended `lineitem quote` and `schema register` with a traceback."""
    with pytest.raises(InputError, match="exponent"):
        decode(BEYOND)
    with pytest.raises(BadSchema):
        parsed(BEYOND)
