"""What waits in a lane: people's messages first, and those whose outcome someone else will write."""

from collections import deque
from collections.abc import Iterator

from sender.work import Work

AWAIT_OUTCOME_S = 0.5


class Queues:
    """Bounded by what the scheduler may release to the lane; times are monotonic seconds."""

    def __init__(self) -> None:
        self._people: deque[Work] = deque()
        self._others: deque[Work] = deque()
        self._awaiting: list[tuple[float, Work]] = []

    def __len__(self) -> int:
        return len(self._people) + len(self._others)

    @property
    def has_people(self) -> bool:
        return bool(self._people)

    def put(self, work: Work) -> None:
        self._queue(work).append(work)

    def take(self, count: int) -> list[Work]:
        works: list[Work] = []
        while len(works) < count and len(self):
            works.append(self._people.popleft() if self._people else self._others.popleft())
        return works

    def put_back(self, works: list[Work], *, retaken: bool = False) -> None:
        """In front, in their order."""
        for work in reversed(works):
            work.retaken = work.retaken or retaken
            self._queue(work).appendleft(work)

    def take_older(self, age_s: float, now_s: float) -> Iterator[Work]:
        """Those that came so long ago."""
        for queue in (self._people, self._others):
            while queue and now_s - queue[0].waits_since_s >= age_s:
                yield queue.popleft()

    def await_outcome(self, work: Work, now_s: float) -> None:
        """Its offset is kept until the outcome is in the ledger: whoever is to tell it may not live to."""
        self._awaiting.append((now_s + AWAIT_OUTCOME_S, work))

    def ask_again(self, now_s: float) -> None:
        """Those whose outcome may be there by now queue up again."""
        due = [work for due_s, work in self._awaiting if due_s <= now_s]
        if due:
            self._awaiting = [(due_s, work) for due_s, work in self._awaiting if due_s > now_s]
            self.put_back(due)

    def next_asking(self) -> float | None:
        return min((due_s for due_s, _ in self._awaiting), default=None)

    def _queue(self, work: Work) -> deque[Work]:
        return self._people if work.from_person else self._others
