"""How far a partition is done when its records finish in any order. No I/O, no clock."""


class Watermark:
    """The contiguous finished prefix of one partition. Offsets begin in ascending order, with gaps (compaction,
    transaction markers) allowed; each finishes once, finishing again does nothing."""

    __slots__ = ("_begun", "_finished", "_head", "_next")

    def __init__(self) -> None:
        self._begun: list[int] = []
        self._head = 0
        self._finished: set[int] = set()
        self._next: int | None = None

    def begin(self, offset: int) -> bool:
        """False if the offset was begun before (the consumer was rewound): the record is already under way."""
        if self._next is not None and offset < self._next:
            return False
        self._begun.append(offset)
        self._next = offset + 1
        return True

    def finish(self, offset: int) -> None:
        if self._head < len(self._begun) and offset >= self._begun[self._head]:
            self._finished.add(offset)

    def advance(self) -> int | None:
        """The offset to commit (the first unfinished one), None if nothing has finished since the last call."""
        head = self._head
        begun, finished = self._begun, self._finished
        while head < len(begun) and begun[head] in finished:
            finished.discard(begun[head])
            head += 1
        if head == self._head:
            return None
        last = begun[head - 1]
        if head > 4096 and head * 2 > len(begun):
            del begun[:head]
            head = 0
        self._head = head
        return begun[head] if head < len(begun) else last + 1

    @property
    def open(self) -> int:
        """Begun and not yet within the finished prefix."""
        return len(self._begun) - self._head
