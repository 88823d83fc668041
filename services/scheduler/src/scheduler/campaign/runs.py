"""Campaigns as the hot paths see them: status under a shared lock, definitions parsed once."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from contracts.campaigns import Definition
from scheduler.dispatch.automaton import CampaignStatus, Rules

_LOCK = """
SELECT campaign_id, account_id, status, run_epoch, definition_version FROM campaign
WHERE campaign_id = ANY($1::uuid[]) ORDER BY campaign_id FOR SHARE
"""
_DEFINITIONS = "SELECT campaign_id, definition_version, definition FROM campaign WHERE campaign_id = ANY($1::uuid[])"
_CACHED_MAX = 2000


@dataclass(frozen=True, slots=True)
class CampaignRun:
    campaign_id: UUID
    account_id: UUID
    status: CampaignStatus
    run_epoch: int
    definition: Definition
    traceparent: str | None = None

    @property
    def rules(self) -> Rules:
        policy = self.definition.policy
        return Rules(
            status=self.status,
            run_epoch=self.run_epoch,
            max_retries=policy.max_retries,
            retry_delay_s=policy.retry_delay_s,
            guarantee=policy.guarantee,
            valid_until=policy.valid_until,
        )


class Definitions:
    """Parsed definitions by campaign and version: a definition never changes under one version."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[tuple[UUID, int], Definition] = OrderedDict()

    async def of(self, raw: asyncpg.Connection, wanted: Iterable[tuple[UUID, int]]) -> dict[UUID, Definition]:
        wanted = list(wanted)
        missing = [campaign for campaign, version in wanted if (campaign, version) not in self._parsed]
        if missing:
            for row in await raw.fetch(_DEFINITIONS, missing):
                definition = Definition.model_validate(row["definition"] or {"name": ""}, strict=False, extra="ignore")
                self._parsed[row["campaign_id"], row["definition_version"]] = definition
        found = {key[0]: self._parsed[key] for key in wanted}
        while len(self._parsed) > _CACHED_MAX:
            self._parsed.popitem(last=False)
        return found


async def lock_shared(
    raw: asyncpg.Connection, definitions: Definitions, campaign_ids: Iterable[UUID]
) -> dict[UUID, CampaignRun]:
    """While the transaction lasts no campaign of these is paused, cancelled or resumed."""
    rows = await raw.fetch(_LOCK, sorted(set(campaign_ids)))
    parsed = await definitions.of(raw, [(row["campaign_id"], row["definition_version"]) for row in rows])
    return {
        row["campaign_id"]: CampaignRun(
            row["campaign_id"], row["account_id"], row["status"], row["run_epoch"], parsed[row["campaign_id"]]
        )
        for row in rows
    }
