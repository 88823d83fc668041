"""The simulator's append-only log, and the CLI's own clock, as values. Parsing only; the file is read at the edge."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# What a client may take as proof that the message was not taken. All other answers may hide an accepted one.
REFUSALS = ("rejected", "throttled")
ARRIVED = frozenset({"delivered", "read", "played"})
FAILED = "failed"
NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Send:
    """One send request as it reached the provider. `accepted`: the provider took it, whatever the client saw."""

    at_ms: int
    mono_ns: int
    request: int
    provider: str
    number: str
    person: str
    label: str | None
    text_sha: str
    fate: str
    code: int | None
    accepted: bool
    message_id: str | None

    @property
    def maybe_accepted(self) -> bool:
        """Taken, or answered in a way that leaves it open (a 5xx with the provider's own code is an answer)."""
        if self.fate in REFUSALS:
            return False
        return self.accepted or not (self.fate == "5xx" and self.code is not None)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One try of a webhook that ended. `items`: (message id, status or kind); `http_status`: 0 without an answer."""

    provider: str
    items: tuple[tuple[str, str], ...]
    http_status: int


@dataclass(frozen=True, slots=True)
class Inbound:
    """A person wrote to a number."""

    at_ms: int
    mono_ns: int
    number: str
    person: str
    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Witness:
    """Everything since the last start or reset of the simulator. `answered`: requests whose answer reached a socket."""

    sends: tuple[Send, ...]
    webhooks: tuple[Webhook, ...]
    inbound: tuple[Inbound, ...]
    answered: frozenset[int] = frozenset()

    @property
    def failed_later(self) -> frozenset[str]:
        """Ids of messages that the provider accepted and then reported as failed, and never as delivered."""
        told, perhaps = self._told
        return frozenset(
            message for message, whats in told.items() if FAILED in whats and not (whats | perhaps[message]) & ARRIVED
        )

    @property
    def perhaps_failed_later(self) -> frozenset[str]:
        """Those of `failed_later`, and where it hangs on a webhook of which nobody knows whether it was heard."""
        told, perhaps = self._told
        return frozenset(
            message
            for message in told.keys() | perhaps.keys()
            if FAILED in told[message] | perhaps[message] and not told[message] & ARRIVED
        )

    @property
    def _told(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """By message, what webhooks said of it: those answered with 2xx, and those whose answer was lost or a 5xx."""
        told: dict[str, set[str]] = defaultdict(set)
        perhaps: dict[str, set[str]] = defaultdict(set)
        for webhook in self.webhooks:
            if 200 <= webhook.http_status < 300:
                heard = told
            elif webhook.http_status == NO_ANSWER or webhook.http_status >= 500:
                heard = perhaps
            else:
                continue
            for message, what in webhook.items:
                heard[message].add(what)
        return told, perhaps


@dataclass(frozen=True, slots=True)
class Pause:
    """Between the acknowledged pause and the request to resume nothing may be sent."""

    campaign_id: str
    from_ns: int
    until_ns: int


def read_witness(lines: Iterable[str]) -> Witness:
    """A last line that is cut short (the simulator was killed) is left out."""
    sends: list[Send] = []
    webhooks: list[Webhook] = []
    inbound: list[Inbound] = []
    answered: set[int] = set()
    for line in lines:
        try:
            fact = json.loads(line)
        except json.JSONDecodeError:
            continue
        match fact["event"]:
            case "request_open":
                sends.append(_send(fact))
            case "request_closed" if fact.get("how") == "answered":
                answered.add(fact["request"])
            case "webhook":
                items = tuple((str(item[0]), str(item[1])) for item in fact["items"])
                webhooks.append(Webhook(fact["provider"], items, fact["http_status"]))
            case "inbound":
                inbound.append(_inbound(fact))
            case "control" if fact.get("what") == "reset":
                sends, webhooks, inbound, answered = [], [], [], set()
    return Witness(tuple(sends), tuple(webhooks), tuple(inbound), frozenset(answered))


def read_pauses(lines: Iterable[str]) -> tuple[Pause, ...]:
    """From the CLI's clock; a pause that was not ended lasts for ever, and so does a cancellation."""
    pauses: list[Pause] = []
    began: dict[str, int] = {}
    for line in lines:
        fact = json.loads(line)
        campaign = fact.get("campaign_id", "")
        match fact["event"]:
            case "paused" | "cancelled":
                began.setdefault(campaign, fact["mono_ns"])
            case "resume_requested" if campaign in began:
                pauses.append(Pause(campaign, began.pop(campaign), fact["mono_ns"]))
    endless = 2**63
    return (*pauses, *(Pause(campaign, since, endless) for campaign, since in began.items()))


def _send(fact: dict[str, Any]) -> Send:
    return Send(
        at_ms=fact["at_ms"],
        mono_ns=fact["mono_ns"],
        request=fact["request"],
        provider=fact["provider"],
        number=fact["number"],
        person=fact["person"],
        label=fact.get("label"),
        text_sha=fact.get("text_sha") or "",
        fate=fact["fate"],
        code=fact.get("code"),
        accepted=bool(fact["accepted"]),
        message_id=fact.get("message_id"),
    )


def _inbound(fact: dict[str, Any]) -> Inbound:
    return Inbound(
        at_ms=fact["at_ms"],
        mono_ns=fact["mono_ns"],
        number=fact["number"],
        person=fact["person"],
        message_id=str(fact["message_id"]),
        text=fact.get("text") or "",
    )
