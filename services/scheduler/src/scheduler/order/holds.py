"""Kill-switches: while one is set nothing that it covers is released."""

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from scheduler.campaign.runs import CampaignRun

NOBODY = UUID(int=0)
_LOAD = "SELECT account_id, scope, key FROM hold WHERE held"
_SET = """
INSERT INTO hold (account_id, scope, key, held, version) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (account_id, scope, key) DO UPDATE SET held = excluded.held, version = excluded.version
WHERE hold.version < excluded.version
"""


class Holds:
    """Those that are set now."""

    def __init__(self, rows: Iterable[tuple[UUID, str, str]]) -> None:
        self._set = frozenset(rows)

    @classmethod
    async def load(cls, raw: asyncpg.Connection) -> "Holds":
        return cls((row["account_id"], row["scope"], row["key"]) for row in await raw.fetch(_LOAD))

    def of_account(self, account_id: UUID) -> bool:
        return bool(self._set) and ((NOBODY, "everything", "") in self._set or (account_id, "account", "") in self._set)

    def of_instance(self, account_id: UUID, instance_id: UUID) -> bool:
        return bool(self._set) and (
            self.of_account(account_id) or (account_id, "instance", str(instance_id)) in self._set
        )

    def scope_of_instance(self, account_id: UUID, instance_id: UUID) -> str | None:
        """Which of those that cover it to name: the widest."""
        if (NOBODY, "everything", "") in self._set:
            return "everything"
        if (account_id, "account", "") in self._set:
            return "account"
        return "instance" if (account_id, "instance", str(instance_id)) in self._set else None

    def template_of(self, run: CampaignRun) -> str | None:
        """The held template that holds the campaign."""
        names = (step.template_name for step in run.definition.steps if step.template_name is not None)
        return next((name for name in names if (run.account_id, "template", name) in self._set), None)

    def of_campaign(self, run: CampaignRun) -> bool:
        """Of the campaign itself: one of its templates."""
        return bool(self._set) and any(
            (run.account_id, "template", step.template_name) in self._set
            for step in run.definition.steps
            if step.template_name is not None
        )


async def set_hold(
    raw: asyncpg.Connection, account_id: UUID, scope: str, key: str, *, held: bool, version: int
) -> None:
    """The highest version wins, whatever order they come in."""
    owner = NOBODY if scope == "everything" else account_id
    await raw.execute(_SET, owner, scope, key, held, version)
