"""What campaigns and people say, as the scheduler in the simulation keeps it."""

from collections.abc import Sequence
from uuid import UUID

from contracts import ids
from contracts.campaigns import CampaignEvent, CampaignResumed, CampaignStarted, RecipientsAdded
from contracts.contacts import ContactOptedOut
from scheduler.campaign.campaigns import _status
from simulation.clock import Steps
from simulation.kafka import Record
from simulation.postgres import Transaction
from simulation.scheduler_tables import (
    CAMPAIGN,
    CHORE,
    DISPATCH,
    LANE,
    NEW_CAMPAIGN,
    OPT_OUT,
    RECIPIENT,
    Row,
    Tables,
    change,
    ended,
)


class News:
    """Consumers of campaigns and contacts."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.database = tables, tables.database

    def follow(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        for campaign_id in sorted({UUID(one.key) for one in batch}):
            yield from transaction.lock(CAMPAIGN, campaign_id)
        for one in batch:
            campaign_id, event, version = UUID(one.key), one.event, one.envelope.stream_version or 0
            row = {**(transaction.read(CAMPAIGN, campaign_id) or NEW_CAMPAIGN)}
            if isinstance(event, RecipientsAdded):
                for nth, recipient in enumerate(event.recipients):
                    transaction.write(RECIPIENT, recipient.recipient_id, (campaign_id, event.chunk, nth, recipient))
                row["chunks"] = len(
                    {chunk for _, (of, chunk, _, _) in transaction.rows(RECIPIENT) if of == campaign_id}
                )
            elif row["stream_version"] < version and isinstance(event, CampaignEvent):
                self._move(transaction, campaign_id, row, event, version)
            transaction.write(CAMPAIGN, campaign_id, row)

    def _move(self, transaction: Transaction, campaign_id: UUID, row: Row, event: CampaignEvent, version: int) -> None:
        status = _status(event)
        row |= {"stream_version": version, "run_epoch": max(row["run_epoch"], event.run_epoch)}
        if status is not None:
            row["status"] = status
        match event:
            case CampaignStarted():
                row |= {"definition": event.definition, "chunk_count": event.chunk_count, "drained": False}
            case CampaignResumed():
                row["drained"] = False
                freed = [
                    d for _, d in transaction.rows(DISPATCH) if d["campaign_id"] == campaign_id and d["waits"] == "run"
                ]
                self.tables.report(transaction, [change(transaction, d, waits=None, reason=None) for d in freed])
                if event.retry == "failed":
                    transaction.write(CHORE, (campaign_id, "requeue"), True)
            case _ if status in ("cancelling", "cancelled"):
                transaction.write(CHORE, (campaign_id, "cancel"), True)
            case _:
                pass

    def heed_opt_outs(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        keys = [one.event.recipient_key for one in batch if isinstance(one.event, ContactOptedOut)]
        for key in keys:
            transaction.write(OPT_OUT, key, True)
        pending = [row for row in self.tables.pending(transaction) if ids.phone_key(row["phone"]) in keys]
        for instance_id in sorted({row["instance_id"] for row in pending}):
            yield from transaction.lock(LANE, instance_id)
        for campaign_id in sorted({row["campaign_id"] for row in pending}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
        still = []
        for dispatch_id in sorted(row["dispatch_id"] for row in pending):
            yield from transaction.lock(DISPATCH, dispatch_id)
            if (row := transaction.read(DISPATCH, dispatch_id))["state"] == "pending":
                still.append(change(transaction, row, **ended("skipped", "opted_out")))
        self.tables.report(transaction, still)
