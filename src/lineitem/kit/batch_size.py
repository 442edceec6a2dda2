"""How large a batch may be, so that committing one takes about as long as it should: a controller without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

_WHOLE = 1000
_START = 250
"""Per mille of the largest batch that the first one may be."""
_RECORDS_MIN = 1_000
_TELLING = 500
"""A batch that used less than so much (per mille) of its size says nothing about a larger or smaller one."""


@dataclass(slots=True)
class BatchSize:
    """Grows while commits stay under ``target_ms``, at most twofold a step, and shrinks, at most by half, when they exceed it.

    Between 80 % of the target and the target it stays. Where, by two batches of different size, an empty one would exceed the
    target too, smaller ones would only be more: it goes back to the size before and stays there until a commit is under the
    target again. Records and bytes move together, between 1,000 records and the largest batch. ``target_ms`` 0: always the
    largest.
    """

    records_max: int
    bytes_max: int
    target_ms: int
    _share: int = field(init=False)
    _share_min: int = field(init=False)
    _floor: int = field(init=False)
    _before: tuple[int, int] | None = field(init=False, default=None)  # share and time before it was made smaller

    def __post_init__(self) -> None:
        self._share_min = min(max(-(-_WHOLE * _RECORDS_MIN // self.records_max), 1), _WHOLE)
        self._floor = self._share_min
        self._share = max(_START, self._share_min) if self.target_ms else _WHOLE

    @property
    def records(self) -> int:
        """Records of the next batch, at most."""
        return max(self.records_max * self._share // _WHOLE, 1)

    @property
    def bytes(self) -> int:
        """Bytes of the next batch, at most."""
        return max(self.bytes_max * self._share // _WHOLE, 1)

    def observe(self, records: int, size: int, took_ms: int) -> None:
        """A batch of so many records and bytes took so long to commit."""
        used = max(_WHOLE * records // self.records, _WHOLE * size // self.bytes)
        if not self.target_ms or used < _TELLING:
            return
        if took_ms > self.target_ms:
            self._shrink(took_ms)
            return
        self._floor, self._before = self._share_min, None
        if took_ms * 10 < self.target_ms * 8:
            wanted = self._share * self.target_ms * 9 // (10 * max(took_ms, 1))
            self._share = min(max(wanted, self._share + 1), 2 * self._share, _WHOLE)

    def _shrink(self, took_ms: int) -> None:
        share, before_ms = self._before or (self._share, took_ms)
        apart = self._share * 4 <= share * 3
        if apart and took_ms - (before_ms - took_ms) * self._share // (share - self._share) >= self.target_ms:
            self._share = self._floor = (
                share  # by these two an empty batch would take as long: its size is not to blame
            )
            self._before = None
            return
        if apart or self._before is None:
            self._before = (self._share, took_ms)
        wanted = max(self._share * self.target_ms // took_ms, self._share // 2)
        self._share = max(min(wanted, self._share - 1), self._floor)
