"""The audit of a run with several campaigns of several accounts: each by itself, and what holds for all together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from pombo.audit import invariants, ledger
from pombo.audit.deliveries import Deliveries, assign
from pombo.audit.finding import SHOWN_MAX, Finding, found
from pombo.audit.ledger import Facts
from pombo.audit.promises import Answers, NumberLimits, Plan, Recipient
from pombo.audit.windows import most_people
from pombo.audit.witness import Pause, Send, Witness

# The numbers of the single campaign's audit → those of the reliability document.
NAMES = {"1": "I1", "1b": "I3", "2": "I2", "3": "I4", "4": "I6", "4b": "I7", "5": "I8", "6": "I11", "7": "I10"}


@dataclass(frozen=True, slots=True)
class Audited:
    """One campaign of the run: what was promised, and what the API says of it."""

    plan: Plan
    answers: Answers


@dataclass(frozen=True, slots=True)
class Tally:
    """What a line of results says about the messages. `lost`: counted as sent and not there, or in no final state."""

    messages: int
    sends: int
    duplicates_named: int
    duplicates_unnamed: int
    lost: int
    unresolved: int
    ambiguous: int


def audit_several(
    audited: Sequence[Audited], numbers: Sequence[NumberLimits], witness: Witness, pauses: Sequence[Pause], facts: Facts
) -> list[Finding]:
    """I1 to I14, one finding each. `numbers`: the whole fleet."""
    parts = _apart(audited, witness)
    whole = replace(audited[0].plan, numbers=tuple(numbers))
    known = tuple(facts.calls_between_accounts)
    together = replace(audited[0].answers, crossings=known, calls=facts.calls, raw_counts=facts.raw_counts)
    findings: list[Finding] = []
    for one, deliveries, seen in parts:
        findings += [
            invariants.completeness(one.plan, one.answers),
            invariants.no_phantom(one.answers, deliveries, seen),
            invariants.at_most_once(one.plan, deliveries, seen, facts.ambiguous),
            invariants.pauses_kept(one.plan, seen, tuple(pauses)),
            invariants.allowed_times(one.plan, seen),
        ]
    findings += [
        _strange(assign(witness.sends, _recipients(audited)).strange),
        invariants.rates(replace(whole, numbers=tuple(_without_people(numbers))), witness),
        invariants.rebuilt_equals_live(replace(together, compared=facts.compared)),
        invariants.webhooks_kept(together, witness),
        invariants.accounts_apart(together),
    ]
    joined = _joined(replace(finding, number=NAMES[finding.number]) for finding in findings)
    joined += [_quotas(numbers, witness), *ledger.invariants(facts, witness)]
    return sorted(_joined(joined), key=lambda finding: int(finding.number[1:]))


def tally(audited: Sequence[Audited], witness: Witness, facts: Facts) -> Tally:
    named = unnamed = lost = 0
    failed_later = witness.perhaps_failed_later
    for one, deliveries, _ in _apart(audited, witness):
        for dispatch, sends in deliveries.sends.items():
            more = sum(send.accepted and send.message_id not in failed_later for send in sends) - 1
            may = facts.ambiguous.get(dispatch, 0) if one.plan.at_least_once else 0
            named += min(max(more, 0), may)
            unnamed += max(more - may, 0)
        missing = one.plan.people - len(one.answers.recipients)
        lost += max(missing, 0) * len(one.plan.steps)
        for recipient in one.answers.recipients:
            there = [any(send.accepted for send in deliveries.of(dispatch)) for dispatch in recipient.dispatches]
            if recipient.state in invariants.DONE_STATES:
                lost += there.count(False)
            elif recipient.state not in invariants.FINAL_STATES:
                lost += 1
    return Tally(
        messages=sum(one.plan.people * len(one.plan.steps) for one in audited),
        sends=len(witness.sends),
        duplicates_named=named,
        duplicates_unnamed=unnamed,
        lost=lost,
        unresolved=sum(int(one.answers.statistics["unresolved"]) for one in audited),
        ambiguous=sum(facts.ambiguous.values()),
    )


def _apart(audited: Sequence[Audited], witness: Witness) -> list[tuple[Audited, Deliveries, Witness]]:
    """Each campaign with its sends and the webhooks about them. What fits no campaign is in none."""
    deliveries = assign(witness.sends, _recipients(audited))
    owner = {
        dispatch: index
        for index, one in enumerate(audited)
        for recipient in one.answers.recipients
        for dispatch in recipient.dispatches
    }
    own: dict[int, dict[UUID, tuple[Send, ...]]] = defaultdict(dict)
    for dispatch, sends in deliveries.sends.items():
        own[owner[dispatch]][dispatch] = sends
    parts = []
    for index, one in enumerate(audited):
        sends = tuple(send for found in own[index].values() for send in found)
        ids = {send.message_id for send in sends}
        webhooks = tuple(hook for hook in witness.webhooks if any(message in ids for message, _ in hook.items))
        parts.append((one, Deliveries(own[index], ()), replace(witness, sends=sends, webhooks=webhooks)))
    return parts


def _recipients(audited: Sequence[Audited]) -> list[Recipient]:
    return [recipient for one in audited for recipient in one.answers.recipients]


def _strange(strange: Sequence[Send]) -> Finding:
    wrong = [f"request {send.request} at {send.number} fits no recipient, text and label" for send in strange]
    return found("1b", "no phantom", f"{len(strange)} sends that nobody planned", wrong)


def _without_people(numbers: Iterable[NumberLimits]) -> list[NumberLimits]:
    """People in 24 h are counted for portfolios, in I5."""
    return [replace(number, unique_24h=None) for number in numbers]


def _quotas(numbers: Sequence[NumberLimits], witness: Witness) -> Finding:
    """I5: different people in any 24 h, for all numbers of a portfolio together."""
    sharing: dict[str, list[NumberLimits]] = defaultdict(list)
    for number in numbers:
        if number.unique_24h is not None:
            sharing[number.portfolio or number.number].append(number)
    wrong: list[str] = []
    most: list[str] = []
    for name, members in sharing.items():
        own = {member.number for member in members}
        limit = min(member.unique_24h for member in members if member.unique_24h is not None)
        arrivals = sorted((s.mono_ns, s.person) for s in witness.sends if s.number in own and s.maybe_accepted)
        people = most_people(arrivals)
        most.append(f"{people} of {limit}")
        if people > limit:
            wrong.append(f"portfolio {name}: {people} people in 24 h, the limit is {limit}")
    return found("I5", "people in 24 h by portfolio", ", ".join(most) or "no limits", wrong)


def _joined(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each number, whatever it was found in."""
    by_number: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_number[finding.number].append(finding)
    return [
        Finding(
            number,
            parts[0].title,
            "; ".join(dict.fromkeys(part.counted for part in parts)),
            tuple(text for part in parts for text in part.violations)[: SHOWN_MAX + 1],
            tuple(text for part in parts for text in part.notes)[:SHOWN_MAX],
        )
        for number, parts in by_number.items()
    ]


def read_ambiguous(told: Mapping[str, int]) -> dict[UUID, int]:
    return {UUID(dispatch): count for dispatch, count in told.items()}
