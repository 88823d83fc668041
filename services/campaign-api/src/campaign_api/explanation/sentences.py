"""Reasons in words that a person understands. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from campaign_api.explanation.models import Reason
from campaign_api.instance.trouble import explain as trouble

_STATUSES = {
    "draft": "It was not started yet.",
    "scheduled": "It is scheduled and starts{until}.",
    "pausing": "{by} asked to pause it{since}; the last requests under way are waited for.",
    "paused": "{by} paused it{since}. Resume it to go on.",
    "cancelling": "{by} cancelled it{since}; the last requests under way are waited for.",
    "cancelled": "{by} cancelled it{since}.",
    "completed": "It is completed{since}.",
    "failed": "It stopped{since}: {name}. Once that is mended, resume it.",
    "deleted": "It was deleted.",
}
_HOLDS = {
    "everything": "Everything is stopped in this installation by its operators{because}.",
    "account": "{by} stopped all sending of the account{since}{because}. Lift the hold to go on.",
    "instance": "{by} stopped all sending from {numbers}{since}{because}. Lift the hold to go on.",
    "template": "{by} stopped the template {name}{since}{because}. Lift the hold to go on.",
}
_BLOCKS = {
    "quota": "{numbers}: as many new people as allowed within 24 hours have been written to. Goes on{until}.",
    "throttled": "{numbers}: the provider asked for a rest. Goes on{until}.",
    "breaker": "{numbers}: several requests in a row failed. A single message tries again{until}.",
    "instance_stopped": "{numbers}: stopped; looked at again{until}.",
}
_TEXTS = {
    "outside_hours": "Outside its allowed hours. Goes on{until}.",
    "outside_weekdays": "Today is none of its weekdays. Goes on{until}.",
    "expired": "Its validity is over: what is left expires.",
    "daily_limit": "Its limit of {limit} messages a day is reached. Goes on{until}.",
    "recipients_arriving": "Its recipients are still being read: {count} of {limit} parts.",
    "planning": "Its plan is being made: {count} of {limit}; what is planned is sent already.",
    "gate_closed": "The sender does not let this run of the campaign through any more ({detail}).",
    "gate_closing": "It is being stopped: {count} requests are still under way.",
    "template_stopped": "The provider stopped a template ({detail}). Goes on{until_or_person}.",
    "instance_unknown": "{numbers}: not known to the scheduler yet.",
    "instance_stopped": "{numbers}: {status}. {remedy}",
    "sender_stopped": "{numbers}: {trouble}",
    "quota": "{numbers}: {count} of {limit} new people within 24 hours have been written to. Goes on{until}.",
    "warm_up": "{numbers}: is being warmed up, and as many messages as its plan allows today have left. Goes"
    " on{until}.",
    "credit": "{numbers}: {count} messages are with the sender{since}; the next follow as these are answered.",
    "delay": "{numbers}: the pause between two messages. Goes on{until}.",
    "rest": "{numbers}: rests after a row of messages, as the campaign's policy says. Goes on{until_or_answers}.",
    "throttled": "{numbers}: slowed down to {count} messages a second (of {limit}), because the provider refused more.",
    "limiter": "{numbers}: keeps its rate after a change of owner. Goes on{until}.",
    "no_owner": "{numbers}: no sender owns it{since}; another one takes it over in a few seconds, if one runs.",
    "outcomes_late": "{numbers}: {count} messages were handed out and not answered{since}: the sender is slow, stopped,"
    " or waits for a slow provider.",
    "previous_step": "The step before it has no result yet.",
    "next_run": "It waits for the campaign's next run: resume the campaign.",
    "its_turn": "It waits for its turn: {count} messages of the campaign go before it.",
    "with_sender": "It is with the sender{since}.",
    "under_way": "It is being sent{since}; an answer, or none, is known{until}.",
    "ambiguous": "Nobody knows yet whether it was sent: evidence is awaited{since}.",
    "attempt_ambiguous": "Nobody knows yet whether it was sent ({detail}): evidence is awaited{since}.",
    "attempt_unresolved": "Nobody could find out whether it was sent ({detail}). Decide: was it sent, send it again,"
    " or give up.",
    "unknown": "The scheduler does not know it (yet): what was ordered last has not reached it.",
    "scheduler_silent": "The scheduler did not answer in time: it is down or far behind, and nothing new is released.",
    "scheduler_behind": "The scheduler is {count} s behind with what people ask.",
    "sender_silent": "The sender did not answer in time: it is down or far behind, and nothing leaves.",
    "sender_behind": "The sender is {count} s behind with what people ask.",
    "screen_behind": "What is shown lags {count} messages behind what was done.",
}
_MOVES = "{numbers}: {status}. What it has not sent goes to other numbers of the campaign, if there are any."
_RETURNS = {
    "pair_rate": "Too many messages to this person within a short time. Again{until}.",
    "held": "It came back because of a hold. Again{until}.",
    "quota": "It came back because the 24-hour limit of its number is reached. Again{until}.",
    "breaker": "It came back because its number's requests fail. Again{until}.",
    "retry_budget": "It came back because too many of its host's requests fail to try more of them. Again{until}.",
    "paused": "It came back because its campaign was paused.",
    "cancelled": "It came back because its campaign was cancelled.",
    "expired": "It came back because its time to leave was over before its turn came.",
    "shutting_down": "It came back because the sender was restarted.",
    "throttled": "It came back because the provider asked for a rest. Again{until}.",
    "instance_unknown": "It came back because the sender did not know its number. Again{until}.",
    "instance_stopped": "It came back because its number is stopped. Again{until}.",
}
_REMEDIES = {
    "inactive": "Activate it.",
    "paused": "Set its status back to active.",
    "disconnected": "Connect it again.",
    "banned": "Appeal on the phone; use another number meanwhile.",
    "account_disabled": "Appeal on the account's page; use another account's number meanwhile.",
    "deleted": "Give the campaign another number.",
}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Words:
    """What names stand for, the zone in which times are told, and why numbers are not connected."""

    instances: Mapping[UUID, str]
    zone: ZoneInfo
    now: datetime
    troubles: Mapping[UUID, str] = field(default_factory=dict)

    def numbers(self, reason: Reason) -> str:
        names = [self.instances.get(each, str(each)) for each in reason.instance_ids]
        if not names:
            return "The number"
        if len(names) == 1:
            return names[0]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{len(names)} numbers ({', '.join(names[:_SHOWN])}{more})"

    def remedy(self, reason: Reason) -> str:
        """What was said of all of its numbers tells more than that they are not connected."""
        said = {self.troubles.get(each) for each in reason.instance_ids}
        if reason.detail == "disconnected" and len(said) == 1 and (known := said.pop()) is not None:
            return trouble(known)
        return _REMEDIES.get(reason.detail or "", "")

    def moment(self, at: datetime) -> str:
        """With its day where that is not today."""
        local, today = at.astimezone(self.zone), self.now.astimezone(self.zone).date()
        return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%a %d %b %Y %H:%M}"


def sentence(reason: Reason, words: Words) -> str:
    since = f" since {words.moment(reason.since)}" if reason.since is not None else ""
    until = f" at {words.moment(reason.until)}" if reason.until is not None else ""
    detail = reason.detail or ""
    text = _template(reason)
    status = detail.replace("_", " ")
    return text.format(
        numbers=words.numbers(reason),
        by=reason.by_name or "Pombo",
        since=since,
        because=f" ({reason.because})" if reason.because else "",
        until=until,
        until_or_person=until or " when the provider approves it again, or a person lifts the hold",
        until_or_answers=until or " once the last answers are in",
        detail=detail,
        name=detail.partition(": ")[2],
        status=status,
        remedy=words.remedy(reason),
        trouble=trouble(detail),
        count=_figure(reason.count),
        limit=_figure(reason.limit),
    ).strip()


def _template(reason: Reason) -> str:
    detail = reason.detail or ""
    match reason.reason:
        case "campaign_not_running":
            return _STATUSES.get(detail.partition(":")[0], "It is not running ({detail}).")
        case "held":
            return _HOLDS.get(detail.partition(":")[0], "A hold stops it.")
        case "instance_stopped" if reason.moves:
            return _MOVES
        case "instance_blocked":
            return _blocked(detail, until=reason.until is not None)
        case "retry_or_return":
            again = (
                "Attempt {count} failed before it ({detail})" if (reason.count or 1) > 1 else "It came back ({detail})"
            )
            return _RETURNS.get(detail, f"{again}. Again{{until}}.")
        case "not_waiting":
            return "It does not wait: {detail}."
        case known:
            return _TEXTS.get(known, f"{known.replace('_', ' ').capitalize()}{{until}}.")


def _blocked(detail: str, *, until: bool) -> str:
    kind, _, cause = detail.partition(": ")
    if kind == "breaker" and cause:
        text = trouble(cause).replace("{", "{{").replace("}", "}}")
        return f"{{numbers}}: {text}" + (" A single message tries again{until}." if until else "")
    return _BLOCKS.get(kind, "{numbers}: blocked ({detail}). Goes on{until}.")


def _figure(value: float | None) -> str:
    return "some" if value is None else f"{value:g}"


def summed_up(reasons: list[Reason], waiting: int | None, end: datetime | None, words: Words) -> str:
    """In one sentence: the first thing that holds it, or that nothing does."""
    holding = [
        one for one in reasons if not one.slows and one.reason not in ("its_turn", "planning", "credit", "delay")
    ]
    when = f" It should end at about {words.moment(end)}." if end is not None else ""
    if holding:
        more = f" And {len(holding) - 1} more." if len(holding) > 1 else ""
        return holding[0].text + more + when
    if waiting == 0:
        return "Nothing waits."
    return f"Nothing holds it.{when}"
