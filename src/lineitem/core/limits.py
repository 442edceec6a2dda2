"""Limits on everything that comes in: one place, so that documents and checks agree."""

from __future__ import annotations

RECORD_BYTES_MAX = 1 << 20
"""Bytes of one raw record; longer ones are dead letters ``too_large`` (their first bytes are kept)."""
DEAD_LETTER_RAW_BYTES_MAX = 1 << 16
"""Bytes of a raw record kept with a dead letter; the segment keeps up to ``RECORD_BYTES_MAX``."""
LETTER_REASON_CHARS_MAX = 2000
"""Characters of the reason for fixing or discarding a dead letter, and for a switch."""
GAP_REASON_CHARS_MAX = 2000
"""Characters of the reason for waiving a gap, or for opening it again."""
REPLAY_LETTERS_MAX = 5_000
"""Dead letters tried again in one batch."""
REPLAY_BYTES_MAX = 32 << 20
"""Bytes of raw records tried again in one batch, a single record aside."""
RETRY_LETTERS_MAX = 10_000
"""Dead letters that one run of `ingest` or `catalog publish` tries again by itself."""
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 60, 86_400
"""How long a dead letter that was tried again rests before it is by itself: doubled with every attempt, up to a day."""
SWITCHES_MAX = 1_000
"""Switches of `lineitem throttle` in force at once in a namespace."""
SWITCH_RATE_MAX = 100_000_000
"""Events a second that a switch may allow."""
ACCOUNTS_HELD_MAX = 100
"""Accounts of one batch whose excess waits under a limit that each account has; those with the largest."""
NESTING_MAX = 64
"""Levels of JSON nesting."""
FIELD_CHARS_MAX = 1024
"""Characters of id, source, type, subject."""
SEQUENCE_DIGITS_MAX = 18
SEQUENCE_MAX = 10**SEQUENCE_DIGITS_MAX - 1
"""The largest sequence number of an event that is counted."""
GAP_RUNS_MAX = 10_000
"""Gaps that one act waives or opens again."""
EVENT_YEAR_MIN = 2000
"""Events before this year are dead letters ``time_out_of_range``."""
FUTURE_SECONDS_MAX = 86_400
"""How far ahead of the clock an event may lie."""
QUANTITY_DIGITS_MAX = 38
"""Decimal digits of a scaled quantity or amount; PostgreSQL ``numeric(38)``."""
QUANTITY_SCALE_DEFAULT = 9
"""Decimals a meter keeps unless it declares its own ``scale``."""
AMOUNT_SCALE = 9
"""Decimals of every amount in the ledger (nano-units)."""
CATALOG_BYTES_MAX = 16 << 20
"""Bytes of a catalog or mapping file."""
EXPRESSION_CHARS_MAX = 1000
"""Characters of one filter, value expression or path."""
EXPRESSION_DEPTH_MAX = 32
"""Levels of parentheses, negations, function calls and conditionals in one expression."""
EXPRESSION_NODES_MAX = 200
"""Operands, operations and tests of one expression: each costs one pass over a batch."""
EXPRESSION_DIGITS_MAX = 38
"""Digits of a number written in a value expression."""
EXPRESSION_FACTORS_MAX = 8
"""Readings that one value expression may multiply with each other: each may bring 38 digits."""
GRANT_PRICES_MAX = 100
"""Prices that one prepaid grant may name."""
