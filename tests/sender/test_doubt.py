"""When a gateway's doubtful refusal of a whole number is believed."""

import pytest

from sender.lane.doubt import NONE, Doubt, refuse


@pytest.mark.parametrize(
    ("at_s", "believed"),
    [
        ([0, 20, 40, 61], True),
        ([0, 1, 2, 3], False),  # four within a moment
        ([0, 30, 90], False),  # long, and only three
        ([0, 1, 2, 3, 60], True),
    ],
)
def test_it_takes_four_over_a_minute(at_s: list[int], believed: bool) -> None:
    doubt, found = NONE, [False]
    for now_s in at_s:
        doubt, now = refuse(doubt, 1000.0 + now_s)
        found.append(now)
    assert found[-1] is believed
    assert not any(found[:-1])


def test_the_first_one_counts_from_its_own_time() -> None:
    assert refuse(NONE, 7.0) == (Doubt(7.0, 1), False)
