"""A model of PostgreSQL as far as the services count on it, held to the real one by test_models.py.

Read committed: a read sees what is committed now, and the transaction's own writes. Row locks (shared, exclusive) are
held to the end. A commit happens wholly or not at all; a lost connection leaves unknown which. Positions of the outbox
are given when a row is written, so rows become visible in another order than theirs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chassis.kafka import Outgoing
from simulation.clock import Loop, Process, Signal, Steps

ROUND_TRIP_S = 0.002
STALL_S = 1.5  # a disk that does not answer, a neighbour's checkpoint
LOCK_WAIT_S = 5.0


class ConnectionLost(Exception):
    """Also of a commit: then it is unknown whether it happened."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    record: Outgoing
    published: bool = False


class Lock:
    __slots__ = ("freed", "holders")

    def __init__(self, loop: Loop) -> None:
        self.holders: dict[Transaction, bool] = {}
        self.freed = Signal(loop)


@dataclass(eq=False)
class Database:
    """`unknown_commits`: the share of commits whose connection is lost; `slow_rounds`: of round trips that stall.

    `on_commit` is told each committed write.
    """

    loop: Loop
    unknown_commits: float = 0.0
    slow_rounds: float = 0.0
    tables: dict[str, dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))
    away_until_s: float = 0.0
    open: dict["Transaction", None] = field(default_factory=dict)
    on_commit: list[Callable[["Transaction"], None]] = field(default_factory=list)
    _locks: dict[Any, Lock] = field(default_factory=dict)
    _changed: dict[str, Signal] = field(default_factory=dict)
    _positions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _sessions: dict[str, Process] = field(default_factory=dict)
    commits: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # to each schema

    def changed(self, schema: str) -> Signal:
        """Set at each commit that wrote to this schema (as NOTIFY; tasks that use it look again by time as well)."""
        if schema not in self._changed:
            self._changed[schema] = Signal(self.loop)
        return self._changed[schema]

    def begin(self, process: Process) -> "Transaction":
        if self.loop.now < self.away_until_s:
            raise ConnectionLost
        transaction = Transaction(self, process)
        self.open[transaction] = None
        return transaction

    def go_away(self, seconds: float) -> None:
        """The server restarts: open transactions are rolled back, session locks are gone, commits stay."""
        self.away_until_s = self.loop.now + seconds
        for transaction in list(self.open):
            transaction.roll_back()
        self._free_sessions(lambda _: True)

    def forget(self, process: Process) -> None:
        """The process is dead: the server finds its connections closed."""
        for transaction in list(self.open):
            if transaction.process is process:
                transaction.roll_back()
        self._free_sessions(lambda holder: holder is process)

    def try_session_lock(self, process: Process, name: str) -> bool:
        """An advisory lock that lasts as long as the connection; every process has one connection for each name."""
        if self.loop.now < self.away_until_s:
            raise ConnectionLost
        return self._sessions.setdefault(name, process) is process

    def _free_sessions(self, gone: Callable[[Process], bool]) -> None:
        for name in [name for name, holder in self._sessions.items() if gone(holder)]:
            del self._sessions[name]
        for signal in self._changed.values():
            signal.set()


@dataclass(eq=False)
class Transaction:
    database: Database
    process: Process
    writes: dict[tuple[str, Any], Any] = field(default_factory=dict)
    notes: list[tuple[Any, ...]] = field(default_factory=list)  # for the witness, at the commit
    over: bool = False
    _held: list[Lock] = field(default_factory=list)

    def read(self, table: str, key: Any) -> Any:
        """None if there is no such row."""
        if (table, key) in self.writes:
            return self.writes[table, key]
        return self.database.tables[table].get(key)

    def rows(self, table: str) -> Iterator[tuple[Any, Any]]:
        """All rows of a table, in the order in which they were made."""
        own = {key: value for (of, key), value in self.writes.items() if of == table}
        for key, value in self.database.tables[table].items():
            seen = own.pop(key, value) if key in own else value
            if seen is not None:
                yield key, seen
        yield from ((key, value) for key, value in own.items() if value is not None)

    def write(self, table: str, key: Any, value: Any) -> None:
        """None deletes. The caller holds the row's lock where others may write it as well."""
        self.writes[table, key] = value

    def append(self, schema: str, records: Sequence[Outgoing]) -> None:
        """To the schema's outbox. The sequence does not take part in transactions."""
        for record in records:
            self.database._positions[schema] += 1
            self.write(f"{schema}.outbox", self.database._positions[schema], OutboxRow(record))

    def lock(self, table: str, key: Any, *, share: bool = False) -> Steps[None]:
        """Waits until the row is free. Rows that do not exist yet can be locked too, as by a unique index."""
        yield from self._step()
        lock = self.database._locks.setdefault((table, key), Lock(self.database.loop))
        given_up_s = self.database.loop.now + LOCK_WAIT_S
        while not self._fits(lock, share):
            left_s = given_up_s - self.database.loop.now
            if left_s <= 0:
                self.roll_back()
                raise ConnectionLost
            yield (lock.freed, left_s)
            self._check()
        self._hold(lock, share)

    def try_lock(self, table: str, key: Any) -> bool:
        """SKIP LOCKED."""
        lock = self.database._locks.setdefault((table, key), Lock(self.database.loop))
        fits = self._fits(lock, False)
        if fits:
            self._hold(lock, False)
        return fits

    def commit(self) -> Steps[None]:
        yield from self._step()
        loop, lost = self.database.loop, False
        if self.database.unknown_commits and loop.rng.random() < self.database.unknown_commits:
            lost = True
            if loop.rng.random() < 0.5:
                self.roll_back()
                raise ConnectionLost
        schemas = {table.partition(".")[0]: None for table, _ in self.writes}
        for (table, key), value in self.writes.items():
            rows = self.database.tables[table]
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        for tell in self.database.on_commit:
            tell(self)
        self._end()
        for schema in schemas:
            self.database.commits[schema] += 1
            self.database.changed(schema).set()
        yield loop.rng.uniform(0, ROUND_TRIP_S)
        if lost:
            raise ConnectionLost

    def roll_back(self) -> None:
        if not self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        self.database.open.pop(self, None)
        for lock in self._held:
            lock.holders.pop(self, None)
            lock.freed.set()

    def _fits(self, lock: Lock, share: bool) -> bool:
        others = [mode for holder, mode in lock.holders.items() if holder is not self]
        return not others or (share and all(others))

    def _hold(self, lock: Lock, share: bool) -> None:
        lock.holders[self] = lock.holders.get(self, True) and share
        self._held.append(lock)

    def _step(self) -> Steps[None]:
        rng = self.database.loop.rng
        stalls = self.database.slow_rounds and rng.random() < self.database.slow_rounds
        yield rng.uniform(0, STALL_S if stalls else ROUND_TRIP_S)
        self._check()

    def _check(self) -> None:
        if self.over:
            raise ConnectionLost
