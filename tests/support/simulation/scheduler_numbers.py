"""What the scheduler hears of numbers in warm-up: that there are such, and what they may send in their present day."""

from collections.abc import Sequence
from uuid import UUID

from contracts.instances import InstanceConfigured, WarmUpChanged
from scheduler.instances import first_day
from simulation.clock import Steps
from simulation.kafka import Record
from simulation.postgres import Database, Transaction
from simulation.scheduler_tables import LANE, NEW_LANE, Row
from simulation.town import Town


class Numbers:
    """A number in warm-up is unknown until it is configured; of others nothing is told here."""

    def __init__(self, town: Town, database: Database, flaws: frozenset[str]) -> None:
        self.database, self.flaws = database, flaws
        for instance_id in town.warm_ups.plans:
            database.tables[LANE][instance_id] = {**NEW_LANE, "known": False}

    def heed(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        """As Instances.handle."""
        told = [one for one in batch if isinstance(one.event, InstanceConfigured | WarmUpChanged)]
        for instance_id in sorted({UUID(one.key) for one in told}):
            yield from transaction.lock(LANE, instance_id)
        for one in told:
            instance_id = UUID(one.key)
            row: Row = transaction.read(LANE, instance_id)
            if isinstance(one.event, WarmUpChanged):
                same = row["warm_begins_at"] == one.event.begins_at
                still_out = 0 if "days_begin_unused" in self.flaws else row["in_flight"]
                row = {
                    **row, "warm_used": row["warm_used"] if same else still_out, "warm_allowance": one.event.allowance,
                    "warm_begins_at": one.event.begins_at, "warm_until": one.event.ends_at,
                }  # fmt: skip
                transaction.notes.append(("warm_up", instance_id, one.event.begins_at, one.event.allowance))
            else:
                row = {**row, "known": True}
                plan, begins_at = one.event.warm_up, one.envelope.time
                if plan is not None and row["warm_begins_at"] is None and "first_day_from_the_sender" not in self.flaws:
                    row |= {
                        "warm_allowance": first_day(plan),
                        "warm_begins_at": begins_at,
                        "warm_used": row["in_flight"],
                    }
                    transaction.notes.append(("warm_up", instance_id, begins_at, row["warm_allowance"]))
            transaction.write(LANE, instance_id, {**row, "due_at": min(row["due_at"], self.database.loop.at())})
