"""Taking turns: the slots of a lane divided among accounts, then among the campaigns of each. Pure.

Deficit round-robin: what a contender is owed after a division is carried to the next one, so that with one slot at a
time each still gets its share. The carried credits always add up to what was owed, never more than one slot each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Contender:
    campaign_id: UUID
    account_id: UUID


@dataclass(frozen=True, slots=True)
class Turns:
    """`slots` by campaign (only those with at least one); `owed` is carried to the next division."""

    slots: dict[UUID, int]
    owed: dict[UUID, float]


def shares_of(contenders: Sequence[Contender]) -> dict[UUID, float]:
    """The part of a lane that each gets in the long run: equal for accounts, then equal among an account's own."""
    of_account: dict[UUID, int] = {}
    for contender in contenders:
        of_account[contender.account_id] = of_account.get(contender.account_id, 0) + 1
    return {contender.campaign_id: 1 / len(of_account) / of_account[contender.account_id] for contender in contenders}


def divide(slots: int, contenders: Sequence[Contender], owed: Mapping[UUID, float]) -> Turns:
    """Contenders are those with work now: who has none keeps no claim."""
    if slots <= 0 or not contenders:
        return Turns({}, dict(owed))
    claims = {campaign: owed.get(campaign, 0.0) + slots * share for campaign, share in shares_of(contenders).items()}
    given = {campaign: max(0, int(claim)) for campaign, claim in claims.items()}
    by_remainder = sorted(claims, key=lambda campaign: (given[campaign] - claims[campaign], campaign.int))
    spare = slots - sum(given.values())
    for position in range(max(0, spare)):
        given[by_remainder[position % len(by_remainder)]] += 1
    for campaign in reversed(by_remainder):
        excess = min(given[campaign], sum(given.values()) - slots)
        given[campaign] -= max(0, excess)
    carried = {campaign: max(-1.0, min(1.0, claims[campaign] - given[campaign])) for campaign in claims}
    return Turns({campaign: count for campaign, count in given.items() if count}, carried)
