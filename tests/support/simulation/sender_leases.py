"""Leases of instances in the simulation: fenced by epochs, on the database's clock. `Lease` and `holds` are real."""

from uuid import UUID

from simulation.clock import Process, Steps
from simulation.ledger_rows import OWNER, Owner
from simulation.postgres import Database
from simulation.town import SENDER


class Leases:
    """What one process asks of the owners' table."""

    def __init__(self, process: Process, database: Database) -> None:
        self.process, self.database = process, database

    def acquire(self, instance_id: UUID) -> Steps[tuple[int, float, bool] | None]:
        transaction, name = self.database.begin(self.process), self.process.name
        yield from transaction.lock(OWNER, instance_id)
        now_s = self.database.loop.seconds()
        row: Owner = transaction.read(OWNER, instance_id) or Owner()
        if not (row.lease_until_s < now_s or row.owner == name):
            transaction.roll_back()
            return None
        owner = Owner(row.epoch + 1, name, now_s + SENDER.lease_s, row.tat_s, released=False)
        transaction.write(OWNER, instance_id, owner)
        yield from transaction.commit()
        return owner.epoch, max(0.0, row.tat_s - now_s), row.released

    def release(self, instance_id: UUID, epoch: int, limiter_wait_s: float) -> Steps[None]:
        transaction = self.database.begin(self.process)
        yield from transaction.lock(OWNER, instance_id)
        row: Owner = transaction.read(OWNER, instance_id)
        now_s = self.database.loop.seconds()
        if (row.epoch, row.owner) == (epoch, self.process.name):
            tat_s = max(row.tat_s, now_s + limiter_wait_s)
            transaction.write(OWNER, instance_id, row._replace(lease_until_s=now_s, released=True, tat_s=tat_s))
        yield from transaction.commit()

    def renew(self, held: dict[UUID, int]) -> Steps[set[UUID]]:
        transaction, renewed = self.database.begin(self.process), set()
        for key in sorted(held):
            yield from transaction.lock(OWNER, key)
            row: Owner = transaction.read(OWNER, key)
            now_s = self.database.loop.seconds()
            if (row.epoch, row.owner) == (held[key], self.process.name) and row.lease_until_s > now_s:
                transaction.write(OWNER, key, row._replace(lease_until_s=now_s + SENDER.lease_s))
                renewed.add(key)
        yield from transaction.commit()
        return renewed
