"""One list from what several services say: known once, the telling one first. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from campaign_api.explanation.models import Reason, Teller

_FIELDS = ("scope", "reason", "until", "since", "detail", "count", "limit", "campaign_id", "instance_id")
# Another service's word for the same, which says less: not shown where the first one is.
_SAID_BY = {
    "unknown": ("campaign_not_running",),
    "gate_closed": ("campaign_not_running",),
    "sender_stopped": ("instance_stopped", "instance_blocked"),
    "with_sender": ("under_way",),
    "ambiguous": ("attempt_ambiguous", "attempt_unresolved"),
}
# An owner that is away matters only where something waits for it.
_WAITED_FOR = frozenset({"credit", "outcomes_late", "with_sender", "under_way"})


def read(told: Iterable[Mapping[str, Any]], by: Teller) -> list[Reason]:
    """As the scheduler and the sender write them; fields of a later version are left out."""
    reasons: list[Reason] = []
    for one in told:
        known = {name: one[name] for name in _FIELDS if one.get(name) is not None}
        reasons.append(Reason(**known, slows=bool(one.get("slows")), moves=bool(one.get("moves")), told_by=by))
    return reasons


def merge(own: Sequence[Reason], scheduler: Sequence[Reason], sender: Sequence[Reason]) -> list[Reason]:
    """What holds comes before what slows; the same about several numbers becomes one."""
    everything = [*own, *scheduler, *sender]
    places = {(one.reason, one.instance_id) for one in everything}
    names = {one.reason for one in everything}
    quotas = {one.instance_id for one in everything if one.reason == "quota"}
    kept: list[Reason] = []
    seen: set[tuple[object, ...]] = set()
    for one in everything:
        better = _SAID_BY.get(one.reason, ())
        if any((each, one.instance_id) in places or (each, None) in places for each in better):
            continue
        if one.reason == "no_owner" and not names & _WAITED_FOR:
            continue
        if one.reason == "instance_blocked" and one.detail == "quota" and one.instance_id in quotas:
            continue
        key = _identity(one)
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return sorted(_grouped(kept), key=lambda one: one.slows)


def _identity(one: Reason) -> tuple[object, ...]:
    match one.reason:
        case "held":  # each service tells it of its own subject
            return one.reason, one.detail, one.instance_id if one.detail == "instance" else None
        case "campaign_not_running":
            return one.reason, one.campaign_id
        case _:
            return one.scope, one.reason, one.detail, one.instance_id, one.campaign_id


def _scope(one: Reason) -> str:
    return "hold" if one.reason == "held" else one.scope


def _grouped(reasons: Iterable[Reason]) -> list[Reason]:
    groups: dict[tuple[str, str, str | None], Reason] = {}
    for one in reasons:
        numbers: list[UUID] = [one.instance_id] if one.instance_id is not None else []
        key = (_scope(one), one.reason, one.detail)
        first = groups.get(key)
        if first is None or not numbers or one.reason == "throttled":
            place = (*key[:2], f"{one.detail}|{one.instance_id}|{one.campaign_id}") if first is not None else key
            groups[place] = one.model_copy(update={"instance_ids": numbers})
            continue
        first.instance_ids += numbers
        first.count = None if first.count is None or one.count is None else first.count + one.count
        first.until = _earlier(first.until, one.until)
        first.since = _earlier(first.since, one.since)
    return [_plain(one) for one in groups.values()]


def _plain(one: Reason) -> Reason:
    return one if len(one.instance_ids) < 2 else one.model_copy(update={"instance_id": None})


def _earlier(one: Any, other: Any) -> Any:
    """Of a group the first that ends tells when something moves again."""
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)
