"""The contiguous watermark against a naive list."""

from hypothesis import given
from hypothesis import strategies as st

from sender.offsets import Watermark


@given(st.data())
def test_the_watermark_is_the_first_unfinished_offset(data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=60))
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    watermark, committed = Watermark(), None
    begun: list[int] = []
    finished: set[int] = set()
    events = data.draw(st.permutations([("finish", offset) for offset in offsets]))
    pending = list(offsets)
    for _, offset in events:
        while pending and (not begun or begun[-1] < offset):
            begun.append(pending.pop(0))
            assert watermark.begin(begun[-1])
        watermark.finish(offset)
        watermark.finish(offset)
        finished.add(offset)
        prefix = [o for n, o in enumerate(begun) if set(begun[: n + 1]) <= finished]
        expected = None
        if prefix:
            expected = prefix[-1] + 1 if len(prefix) == len(begun) else begun[len(prefix)]
        moved = watermark.advance()
        if moved is not None:
            assert moved == expected
            committed = moved
        assert watermark.open == len(begun) - len(prefix)
        assert committed is None or committed <= min((o for o in begun if o not in finished), default=10**9)


def test_a_record_read_again_after_a_rewind_is_already_under_way() -> None:
    watermark = Watermark()
    assert watermark.begin(5)
    assert watermark.begin(6)
    assert not watermark.begin(5)
    watermark.finish(5)
    assert watermark.advance() == 6
    assert watermark.advance() is None
    watermark.finish(6)
    assert watermark.advance() == 7


def test_a_record_that_never_began_does_not_move_the_watermark() -> None:
    watermark = Watermark()
    watermark.finish(3)
    assert watermark.advance() is None
    watermark.begin(3)
    assert watermark.advance() is None


def test_memory_stays_bounded() -> None:
    watermark = Watermark()
    for offset in range(50_000):
        watermark.begin(offset)
        watermark.finish(offset)
        if offset % 100 == 0:
            watermark.advance()
    assert len(watermark._begun) < 10_000
