"""Thin models of the chassis' drivers: the relay of an outbox, and the inbox whose offsets are in PostgreSQL.

`flaws` names what a planted bug leaves out; see bugs.py.
"""

from collections.abc import Callable, Sequence

from contracts.topics import Topic
from simulation.clock import Process, Steps
from simulation.kafka import BrokerAway, Kafka, Place, Record
from simulation.postgres import ConnectionLost, Database, OutboxRow, Transaction

AGAIN_S = 0.3
RELAY_ROWS = 20
Handle = Callable[[Transaction, Sequence[Record]], Steps[None]]


def relay(process: Process, database: Database, kafka: Kafka, schema: str, flaws: frozenset[str]) -> Steps[None]:
    """One leads by the advisory lock; unmarked rows in their order are published, then marked."""
    table, last = f"{schema}.outbox", 0
    while True:
        try:
            rows = []
            if database.try_session_lock(process, f"relay {schema}"):
                rows = unmarked(database, table, last if "relay_by_position" in flaws else 0)
            if not rows:
                yield database.changed(schema)
                continue
            yield from kafka.publish(process, [row.record for _, row in rows])
            last = rows[-1][0]
            transaction = database.begin(process)
            for position, row in rows:
                transaction.write(table, position, OutboxRow(row.record, published=True))
            yield from transaction.commit()
        except (ConnectionLost, BrokerAway):
            yield AGAIN_S


def unmarked(database: Database, table: str, after: int = 0) -> list[tuple[int, OutboxRow]]:
    rows = sorted(database.tables[table].items())
    return [(position, row) for position, row in rows if not row.published and position > after][:RELAY_ROWS]


def consume(
    process: Process,
    database: Database,
    kafka: Kafka,
    group: str,
    topics: Sequence[Topic],
    handle: Handle,
    flaws: frozenset[str],
    after: Callable[[], Steps[None]] | None = None,
) -> Steps[None]:
    """Effect once: offsets move by compare-and-set in the effect's transaction. Topics in the order given."""
    member = kafka.join(group, process, topics)
    table = f"{topics_schema(group)}.offset"
    positions: dict[Place, int] = {}
    while True:
        try:
            if member.outdated:
                positions.clear()
            for place in member.assigned():
                if place not in positions:
                    positions[place] = database.tables[table].get((group, *place), 0)
            batch = fetch(kafka, positions, [topic.name for topic in topics])
            if not batch:
                yield member.wake
                continue
            transaction = database.begin(process)
            if not (yield from _move(transaction, table, group, positions, batch, flaws)):
                transaction.roll_back()
                positions.clear()
                continue
            yield from handle(transaction, batch)
            yield from transaction.commit()
            for record in batch:
                positions[record.topic, record.partition] = record.offset + 1
            if after is not None:
                yield from after()
        except ConnectionLost:
            positions.clear()
            yield AGAIN_S
        except BrokerAway:
            yield AGAIN_S


def topics_schema(group: str) -> str:
    """The group's service: its offsets are in the schema of that name."""
    return group.partition("-")[0]


def fetch(kafka: Kafka, positions: dict[Place, int], order: Sequence[str]) -> list[Record]:
    """Raises BrokerAway. A few records, so that batches end anywhere."""
    most = kafka.loop.rng.choice((1, 2, 5, 20))
    batch: list[Record] = []
    for place in sorted(positions, key=lambda place: (order.index(place[0]), place[1])):
        batch += kafka.read(place, positions[place], most)
    return batch


def _move(
    transaction: Transaction,
    table: str,
    group: str,
    positions: dict[Place, int],
    batch: Sequence[Record],
    flaws: frozenset[str],
) -> Steps[bool]:
    """False if another consumer has moved an offset."""
    moves: dict[Place, int] = {}
    for record in batch:
        moves[record.topic, record.partition] = record.offset + 1
    for place in sorted(moves):
        key = (group, *place)
        if "offsets_without_compare" not in flaws:
            yield from transaction.lock(table, key)
            if (transaction.read(table, key) or 0) != positions[place]:
                return False
        transaction.write(table, key, moves[place])
    for record in batch:
        transaction.notes.append(("applied", group, record.topic, record.partition, record.offset))
    return True
