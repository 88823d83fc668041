"""The journey of an accepted message: which statuses come, when, and whether the person answers. Pure."""

from typing import NamedTuple

from provider_simulator.cards import Card
from provider_simulator.faults import Chance
from provider_simulator.settings import Behaviour


class Step(NamedTuple):
    """One status: so many seconds after acceptance (time-scaled); `code` only on failed."""

    after_s: float
    status: str
    code: int | None = None


class Journey(NamedTuple):
    """What will happen to one accepted message."""

    steps: tuple[Step, ...]
    reply: str | None = None
    reply_after_s: float = 0.0
    bsuid: bool = False

    @property
    def outcome(self) -> str:
        """The furthest point in words: accepted, sent, delivered, read, or failed:<code>."""
        best = "accepted"
        for step in self.steps:
            if step.status == "failed":
                return f"failed:{step.code}"
            if _RANK[step.status] > _RANK[best]:
                best = step.status
        return best


_RANK = {"accepted": 0, "sent": 1, "delivered": 2, "read": 3}


def plan(behaviour: Behaviour, card: Card | None, chance: Chance) -> Journey:
    """Draw the journey. A card's fixed part wins over the behaviour's shares."""
    statuses, code = _statuses(behaviour, card, chance)
    start_s = card.status_after_s if card is not None else 0.0
    at_s, steps = start_s, []
    for status in statuses:
        at_s += chance.between(_span(behaviour, status))
        steps.append(Step(at_s, status))
    if code is not None:
        at_s += chance.between(behaviour.sent_after_s)
        steps.append(Step(at_s, "failed", code))
    reply = _reply(behaviour, card, chance, read=code is None and "read" in statuses)
    if reply is None:
        return Journey(tuple(steps))
    bsuid = (card is not None and card.bsuid) or chance.happens(behaviour.bsuid_share)
    return Journey(tuple(steps), reply, at_s + chance.between(behaviour.reply_after_s), bsuid)


def _span(behaviour: Behaviour, status: str) -> tuple[float, float]:
    if status == "sent":
        return behaviour.sent_after_s
    return behaviour.delivered_after_s if status == "delivered" else behaviour.read_after_s


def _statuses(behaviour: Behaviour, card: Card | None, chance: Chance) -> tuple[tuple[str, ...], int | None]:
    if card is not None and card.statuses is not None:
        return card.statuses, card.failed_code
    if chance.happens(behaviour.failed_share):
        codes = behaviour.failed_codes or (131026,)
        return (), codes[int(chance.draw() * len(codes))]
    if not chance.happens(behaviour.delivered_share):
        return ("sent",), None
    if not chance.happens(behaviour.read_share):
        return ("sent", "delivered"), None
    return ("sent", "delivered", "read"), None


def _reply(behaviour: Behaviour, card: Card | None, chance: Chance, *, read: bool) -> str | None:
    if card is not None and card.statuses is not None:
        return card.reply
    if not read or not behaviour.replies or not chance.happens(behaviour.reply_share):
        return None
    return behaviour.replies[int(chance.draw() * len(behaviour.replies))]
