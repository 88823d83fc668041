"""The invariants as functions over what was written down. No I/O, no clock: doctored logs are tests."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from pombo.audit.deliveries import Deliveries
from pombo.audit.finding import Finding, found
from pombo.audit.promises import Answers, NumberLimits, Plan, Recipient
from pombo.audit.windows import busiest, most_people, too_close
from pombo.audit.witness import Pause, Send, Witness

FINAL_STATES = frozenset({"accepted", "sent", "failed", "skipped", "expired", "cancelled", "unresolved"})
DONE_STATES = frozenset({"accepted", "sent"})
# Only a recipient in these states may have a message at the provider that we do not count as sent.
OPEN_STATES = frozenset({"unresolved"})
RECIPIENT_COUNTS = ("sent_count", "failed_count", "skipped", "expired", "cancelled", "unresolved", "pending_count")
DISPATCH_COUNTS = ("sent", "failed", "skipped", "expired", "cancelled", "unresolved", "pending")
STOP_WORDS = frozenset({"SAIR", "PARAR", "STOP"})
# An opt-out takes its way through ingest and Kafka before it is committed; what left until then is no fault.
OPT_OUT_GRACE_NS = 20 * 1_000_000_000


def completeness(plan: Plan, answers: Answers) -> Finding:
    """1: every recipient × step in exactly one final state, and the counts add up."""
    statistics = answers.statistics
    dispatches = statistics["dispatches"]
    wrong: list[str] = []
    expected = plan.people
    for name, count in (
        ("total_contacts", statistics["total_contacts"]),
        ("recipients listed", len(answers.recipients)),
        ("different recipients listed", len({recipient.id for recipient in answers.recipients})),
        ("different people listed", len({recipient.person for recipient in answers.recipients})),
        ("counts of recipients added up", sum(statistics[name] for name in RECIPIENT_COUNTS)),
    ):
        if count != expected:
            wrong.append(f"{name}: {count}, the spreadsheet has {expected} people")
    total = sum(dispatches.get(name, 0) for name in DISPATCH_COUNTS)
    if total != expected * len(plan.steps):
        wrong.append(f"dispatches add up to {total}, not to {expected} × {len(plan.steps)}")
    if statistics["pending_count"] or dispatches.get("pending", 0):
        wrong.append(f"{statistics['pending_count']} recipients, {dispatches.get('pending', 0)} dispatches not final")
    states = Counter(recipient.state for recipient in answers.recipients)
    wrong += [f"{count} recipients are {state}" for state, count in states.items() if state not in FINAL_STATES]
    counted = {"sent_count": sum(states[state] for state in DONE_STATES), "failed_count": states["failed"]}
    counted |= {name: states[name] for name in ("skipped", "expired", "cancelled", "unresolved")}
    wrong += [
        f"{name} says {statistics[name]}, the list has {count}"
        for name, count in counted.items()
        if statistics[name] != count
    ]
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return found("1", "completeness", f"{expected} people × {len(plan.steps)} steps: {told}", wrong)


def no_phantom(answers: Answers, deliveries: Deliveries, witness: Witness) -> Finding:
    """1b: what is counted as sent is at the provider, and what is there is not counted as not sent."""
    failed, perhaps_failed = witness.failed_later, witness.perhaps_failed_later
    wrong = [f"a send to {_hidden(send.person)} fits no recipient, text and label" for send in deliveries.strange]
    most = least = doubtful = 0
    for recipient in answers.recipients:
        may_stand = [_standing(deliveries.of(dispatch), failed) for dispatch in recipient.dispatches]
        stands = [_standing(deliveries.of(dispatch), perhaps_failed) for dispatch in recipient.dispatches]
        most += sum(may_stand)
        least += sum(stands)
        doubtful += sum(stands) if recipient.state in OPEN_STATES else 0
        wrong += _contradictions(recipient, may_stand, stands)
    # What stands at the provider is counted as sent, but for what a person must decide on.
    sent = answers.statistics["dispatches"]["sent"]
    if not least - doubtful <= sent <= most:
        accepted = str(most) if least == most else f"{least} to {most}"
        wrong.append(f"{sent} dispatches are counted as sent, {accepted} stand at the provider ({doubtful} undecided)")
    sends = len(witness.sends)
    return found("1b", "no phantom", f"{sends} sends, {most} dispatches with an accepted one that stands", wrong)


def _standing(sends: tuple[Send, ...], failed_later: frozenset[str]) -> bool:
    return any(send.accepted and send.message_id not in failed_later for send in sends)


def _contradictions(recipient: Recipient, may_stand: list[bool], stands: list[bool]) -> list[str]:
    who = f"recipient {recipient.id} is {recipient.state}"
    if recipient.state in DONE_STATES and not all(may_stand):
        missing = [str(step) for step, there in enumerate(may_stand) if not there]
        return [f"{who}, but the provider has no accepted message of step {', '.join(missing)}"]
    if recipient.state not in DONE_STATES | OPEN_STATES and all(stands):
        return [f"{who}, but the provider accepted every step"]
    return []


def at_most_once(
    plan: Plan, deliveries: Deliveries, witness: Witness, ambiguous: Mapping[UUID, int] | None = None
) -> Finding:
    """2: per dispatch at most one send that the provider may have taken, those reported failed later aside.

    Under `at_least_once` one more for each attempt that was told as ambiguous (`ambiguous`, where it is known).
    """
    failed_later = witness.perhaps_failed_later
    attempts = repeated = 0
    wrong: list[str] = []
    for dispatch, sends in deliveries.sends.items():
        attempts += len(sends)
        repeated += len(sends) > 1
        maybe = [send for send in sends if send.maybe_accepted and send.message_id not in failed_later]
        if len(maybe) > 1:
            fates = ", ".join(send.fate for send in maybe)
            wrong.append(f"dispatch {dispatch}: {len(maybe)} possibly accepted sends ({fates})")
    counted = f"{len(deliveries.sends)} dispatches, {attempts} sends, {repeated} dispatches tried again after a refusal"
    if plan.at_least_once:
        unnamed = _unnamed(deliveries, failed_later, ambiguous) if ambiguous is not None else []
        return found("2", "at least once: possible duplicates named", counted, unnamed, wrong)
    return found("2", "at most one possibly accepted send", counted, wrong)


def _unnamed(deliveries: Deliveries, failed_later: frozenset[str], ambiguous: Mapping[UUID, int]) -> list[str]:
    wrong: list[str] = []
    for dispatch, sends in deliveries.sends.items():
        taken = sum(send.accepted and send.message_id not in failed_later for send in sends)
        if taken > 1 + (named := ambiguous.get(dispatch, 0)):
            wrong.append(f"dispatch {dispatch}: {taken} accepted sends, {named} attempts were told as ambiguous")
    return wrong


def rates(plan: Plan, witness: Witness) -> Finding:
    """3: in any second, to any person, in any 24 hours: never above the limit."""
    wrong: list[str] = []
    peaks: list[str] = []
    for limits in plan.numbers:
        sends = sorted((s for s in witness.sends if s.number == limits.number), key=lambda send: send.mono_ns)
        peak = busiest([send.mono_ns for send in sends])
        peaks.append(f"{limits.kind} {peak} of {limits.per_second:g}")
        if peak > limits.per_second:
            wrong.append(f"{limits.kind}: {peak} sends in one second, the limit is {limits.per_second:g}")
        wrong += _pairs_and_people(limits, sends)
    known = {limits.number for limits in plan.numbers}
    wrong += [f"{send.provider} {send.number} is not in the pool" for send in witness.sends if send.number not in known]
    return found("3", "rates in sliding windows", "busiest second: " + ", ".join(peaks), wrong)


def _pairs_and_people(limits: NumberLimits, sends: list[Send]) -> list[str]:
    wrong: list[str] = []
    pairs: dict[str, list[int]] = defaultdict(list)
    for send in sends:
        pairs[send.person].append(send.mono_ns)
    early = sum(too_close(times, limits.pair_per_minute, limits.pair_burst) for times in pairs.values())
    if early:
        wrong.append(f"{limits.kind}: {early} sends too soon after another to the same person")
    people = most_people([(send.mono_ns, send.person) for send in sends if send.maybe_accepted])
    if limits.unique_24h is not None and people > limits.unique_24h:
        wrong.append(f"{limits.kind}: {people} people in 24 h, the limit is {limits.unique_24h}")
    return wrong


def pauses_kept(plan: Plan, witness: Witness, pauses: tuple[Pause, ...]) -> Finding:
    """4: nothing arrives between an acknowledged pause and the request to resume."""
    ours = [pause for pause in pauses if pause.campaign_id == str(plan.campaign_id)]
    wrong = [
        f"a send to {_hidden(send.person)} arrived {(send.mono_ns - pause.from_ns) / 1e6:.0f} ms after `paused`"
        for pause in ours
        for send in witness.sends
        if pause.from_ns < send.mono_ns < pause.until_ns
    ]
    seconds = sum(min(pause.until_ns, _last(witness)) - pause.from_ns for pause in ours if pause.from_ns) / 1e9
    return found("4", "nothing sent while paused", f"{len(ours)} pauses, {max(seconds, 0):.1f} s", wrong)


def allowed_times(plan: Plan, witness: Witness) -> Finding:
    """4b: no send outside allowed hours, none to a person who has opted out."""
    wrong: list[str] = []
    hours = plan.hours
    if hours is not None:
        for send in witness.sends:
            local = datetime.fromtimestamp(send.at_ms / 1000, UTC).astimezone(hours.zone).time()
            if not hours.holds(local):
                wrong.append(f"a send to {_hidden(send.person)} at {local:%H:%M:%S}, outside allowed hours")
    stopped: dict[str, int] = {}
    for inbound in witness.inbound:
        if inbound.text.strip().upper() in STOP_WORDS:
            stopped.setdefault(inbound.person, inbound.mono_ns)
    wrong += [
        f"a send to {_hidden(send.person)} after the opt-out"
        for send in witness.sends
        if send.person in stopped and send.mono_ns > stopped[send.person] + OPT_OUT_GRACE_NS
    ]
    window = f"{hours.start:%H:%M}–{hours.end:%H:%M}" if hours is not None else "none"
    return found("4b", "allowed hours and opt-outs", f"window {window}, {len(stopped)} opted out", wrong)


def rebuilt_equals_live(answers: Answers) -> Finding:
    """5: fresh read models from the log equal the live ones, table by table."""
    tables = [line for line in answers.compared if "table" in line]
    wrong = [
        f"table {line['table']} differs: {line['live']} live, {line['rebuilt']} rebuilt"
        for line in tables
        if not line["equal"]
    ]
    rows = sum(int(line["live"].get("rows", 0)) for line in tables)
    if not tables:
        wrong.append("nothing was compared")
    return found("5", "rebuilt read models equal live ones", f"{len(tables)} tables, {rows} rows", wrong)


def webhooks_kept(answers: Answers, witness: Witness) -> Finding:
    """6: whatever was answered with 200 is in the raw topic, as often as it was answered."""
    promised: Counter[str] = Counter()
    answered = 0
    for webhook in witness.webhooks:
        if webhook.http_status == 200:
            answered += 1
            promised.update({message for message, _ in webhook.items if message})
    wrong = [
        f"message {message}: {count} webhooks answered with 200, {answers.raw_counts.get(message, 0)} in the topic"
        for message, count in promised.items()
        if answers.raw_counts.get(message, 0) < count
    ]
    counted = f"{answered} webhooks answered with 200 about {len(promised)} messages"
    return found("6", "accepted webhooks are in the topic", counted, wrong)


def accounts_apart(answers: Answers) -> Finding:
    """7: no account sees anything of another one through the API."""
    wrong = list(answers.crossings)
    if not answers.calls:
        wrong.append("nothing was asked")
    return found("7", "accounts see nothing of each other", f"{answers.calls} calls as the other account", wrong)


def _hidden(person: str) -> str:
    """Enough to find the person in the log, not to call them."""
    return f"{person[:4]}…{person[-2:]}"


def _last(witness: Witness) -> int:
    return max((send.mono_ns for send in witness.sends), default=0)
