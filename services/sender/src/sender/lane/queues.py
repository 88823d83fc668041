"""What waits in a lane: people's messages first, then the campaigns in turns, and those whose outcome someone else
will write."""

from collections import deque
from collections.abc import Iterator
from uuid import UUID

from sender.work import Work

AWAIT_OUTCOME_S = 0.5
LEFT_KEPT = 10_000  # more than can be between departure and the outcome's place in the ledger


class Queues:
    """Bounded by what the scheduler may release to the lane; times are monotonic seconds.

    A campaign's messages keep their order. Campaigns take turns one by one, as the scheduler releases them: what was
    released of a large one before a small one came is not in the small one's way.
    """

    def __init__(self) -> None:
        self._people: deque[Work] = deque()
        self._campaigns: dict[UUID | None, deque[Work]] = {}
        self._turns: deque[UUID | None] = deque()  # the keys of `_campaigns`, whose turn is next first
        self._count = 0
        self._awaiting: list[tuple[float, Work]] = []
        self._left: dict[tuple[UUID, int, int], None] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def has_people(self) -> bool:
        return bool(self._people)

    def put(self, work: Work) -> None:
        self._count += 1
        if work.from_person:
            self._people.append(work)
            return
        key = work.message.campaign_id
        if (queue := self._campaigns.get(key)) is None:
            queue = self._campaigns[key] = deque()
            self._turns.append(key)
        queue.append(work)

    def take(self, count: int) -> list[Work]:
        works: list[Work] = []
        while len(works) < count and self._people:
            works.append(self._people.popleft())
        while len(works) < count and self._turns:
            key = self._turns.popleft()
            queue = self._campaigns[key]
            works.append(queue.popleft())
            if queue:
                self._turns.append(key)
            else:
                del self._campaigns[key]
        self._count -= len(works)
        return [self._mark(work) for work in works]

    def _mark(self, work: Work) -> Work:
        work.retaken = work.retaken and _key(work) not in self._left
        return work

    def note_left(self, work: Work) -> None:
        """It goes to the network. A record may be in Kafka twice: the other copy's intent is this one's from now on,
        whatever became of a commit that both were in."""
        self._left[_key(work)] = None
        if len(self._left) > LEFT_KEPT:
            del self._left[next(iter(self._left))]

    def put_back(self, works: list[Work], *, retaken: bool = False) -> None:
        """In front, in their order."""
        self._count += len(works)
        for work in reversed(works):
            work.retaken = work.retaken or retaken
            if work.from_person:
                self._people.appendleft(work)
                continue
            key = work.message.campaign_id
            if key in self._campaigns:
                self._turns.remove(key)
            self._campaigns.setdefault(key, deque()).appendleft(work)
            self._turns.appendleft(key)

    def take_older(self, age_s: float, now_s: float) -> Iterator[Work]:
        """Those that came so long ago."""
        for queue in (self._people, *self._campaigns.values()):
            while queue and now_s - queue[0].waits_since_s >= age_s:
                self._count -= 1
                yield self._mark(queue.popleft())
        self._campaigns = {key: queue for key, queue in self._campaigns.items() if queue}
        self._turns = deque(key for key in self._turns if key in self._campaigns)

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


def _key(work: Work) -> tuple[UUID, int, int]:
    return work.message.dispatch_id, work.message.attempt, work.message.release
