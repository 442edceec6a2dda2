"""Things done now and then are done when they are due, and once more in the end."""

from __future__ import annotations

from lineitem.kit.duties import Duties, Duty

MS = 1_000_000


def test_each_when_it_is_due() -> None:
    """Counted from when it was done last; one that took long rests in proportion; the last time is for those that want it."""
    now, done = [0], []

    def slow() -> None:
        done.append(("slow", now[0] // MS))
        now[0] += 100 * MS

    duties = Duties(
        [Duty(20, lambda: done.append(("quick", now[0] // MS)), last=False), Duty(20, slow, rest_times=10)],
        clock=lambda: now[0],
    )
    duties()
    assert done == []
    for at in (10, 20, 30, 130, 1_100, 1_130):
        now[0] = max(at * MS, now[0])
        duties()
    assert done == [
        ("quick", 20), ("slow", 20), ("quick", 120), ("quick", 1_100), ("quick", 1_130), ("slow", 1_130),
    ]  # fmt: skip
    duties.finish()
    assert done[-1][0] == "slow"
