"""The world that the doors share: numbers, people, time, the log, and the course of every accepted message."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from provider_simulator.agenda import Agenda
from provider_simulator.callbacks import Callbacks
from provider_simulator.cards import Card, card_of
from provider_simulator.door import Request
from provider_simulator.faults import (
    ACCEPT,
    QUIET,
    Accept,
    Break,
    Chance,
    Fate,
    Faults,
    Garble,
    Reject,
    Silence,
    Throttle,
    choose,
    is_accepted,
    latency_s,
    webhook_delays_s,
)  # fmt: skip
from provider_simulator.identifiers import Mint
from provider_simulator.journeys import Journey, Step, plan
from provider_simulator.limits import UniquePeople
from provider_simulator.numbers import Number, Template
from provider_simulator.people import Mailbox, Message, person_key
from provider_simulator.postman import Postman
from provider_simulator.settings import Delivery, Settings, overlay
from provider_simulator.witness import Witness


def now_ms() -> int:
    """Wall clock, milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Sending:
    """A send request under way: what it asks, and the fate drawn for it."""

    request: Request
    number: Number
    to: str = ""
    person: str = ""
    kind: str = ""
    text: str = ""
    label: str | None = None
    template: str | None = None
    chance: Chance | None = None
    card: Card | None = None
    fate: Fate = ACCEPT
    delay_s: float = 0.0
    turn: int = 0


StatusHook = Callable[[Message, Step], None]


class World:
    """Everything that outlives a request."""

    def __init__(self, settings: Settings, delivery: Delivery, witness: Witness,
                 spawn: Callable[..., object], loop: asyncio.AbstractEventLoop) -> None:  # fmt: skip
        self.settings = settings
        self.delivery = delivery
        self.witness = witness
        self.spawn = spawn
        self.faults = QUIET
        self.numbers: dict[str, Number] = {}
        self.templates: dict[str, dict[tuple[str, str], Template]] = {}  # WABA -> (name, language)
        self.media: dict[str, dict[str, Any]] = {}
        self.portfolios: dict[str, UniquePeople] = {}
        self.mailbox = Mailbox(settings.keep_messages)
        self.mint = Mint()
        self.open_sends: dict[int, Sending] = {}
        self.epoch = 0
        self.agenda = Agenda(loop, lambda error: witness.note("crashed", error=repr(error)))
        self._requests = 0
        self.postman = Postman(spawn, connections=delivery.connections, timeout_s=delivery.timeout_s)
        self.callbacks = Callbacks(self.postman, witness, self.later, lambda: self.delivery)

    def later(self, after_s: float, act: Callable[..., Any], *args: Any) -> None:
        """Do it after so many simulated seconds."""
        self.agenda.add(max(0.0, after_s) / self.settings.time_scale, act, args)

    def soon(self, after_s: float, act: Callable[..., Any], *args: Any) -> None:
        """Do it after so many real seconds; at once when there is nothing to wait for."""
        if after_s <= 0.0:
            act(*args)
        else:
            self.agenda.add(after_s, act, args)

    def refresh_faults(self, number: Number) -> None:
        """Lay the number's faults over the global ones."""
        faults: Faults = overlay(self.faults, number.faults)
        number.effective = QUIET if faults == QUIET else faults

    def adopt(self, number: Number) -> None:
        """Take a number in."""
        if number.portfolio:
            shared = self.portfolios.setdefault(number.portfolio, number.uniques)
            if number.limits.unique_24h is None:
                number.limits = overlay(number.limits, {"unique_24h": shared.limit})
            number.uniques = shared
        number.apply_limits()
        self.refresh_faults(number)
        self.numbers[number.id] = number

    def reset(self) -> None:
        """Forget messages, tallies and everything planned; numbers, faults and settings stay."""
        self.epoch += 1
        self.callbacks.epoch += 1
        self.mailbox = Mailbox(self.settings.keep_messages)
        self.portfolios.clear()
        for number in self.numbers.values():
            number.forget()
            self.adopt(number)

    def stop(self) -> None:
        """Everything still planned becomes void."""
        self.epoch += 1
        self.callbacks.epoch += 1
        self.postman.close()

    def draw(self, sending: Sending, to: str) -> None:
        """Fix the recipient, the card and the fate of a request."""
        number = sending.number
        sending.to, sending.person = to, person_key(to)
        sending.chance, sending.turn = number.chance(self.settings.seed, sending.person)
        if self.settings.cards:
            sending.card = card_of(sending.person)
        card = sending.card
        sending.delay_s = latency_s(number.effective, sending.chance)
        if card is None:
            sending.fate = choose(number.effective, sending.chance)
            return
        sending.delay_s += card.answer_after_s
        if card.fate is not None and not (card.first_only and sending.turn > 0):
            sending.fate = card.fate

    def is_missing(self, number: Number, person: str) -> bool:
        """Whether this phone is not on WhatsApp."""
        card = card_of(person) if self.settings.cards else None
        suffixes = number.behaviour.missing_suffixes
        return (card is not None and card.missing) or (bool(suffixes) and person.endswith(suffixes))

    def open(self, sending: Sending, message_id: str | None, journey: Journey | None,
             code: int | None = None) -> None:  # fmt: skip
        """Log the arrival together with its fate, and watch how the request ends."""
        request, number = sending.request, sending.number
        self._requests += 1
        key = self._requests
        accepted = message_id is not None and is_accepted(sending.fate)
        name = _name(sending.fate, code)
        number.tally.fates[name] += 1
        number.tally.open_requests += 1
        number.tally.arrivals.take(request.mono_ns)
        self.open_sends[key] = sending
        if message_id is not None and accepted:
            self.callbacks.follow(message_id, request.header(b"traceparent"))
        self.witness.note_at("request_open", request.at_ms, request.mono_ns, {
            "request": key, "provider": number.kind, "number": number.id, "to": sending.to,
            "person": sending.person, "kind": sending.kind, "template": sending.template,
            "label": sending.label, "text_sha": self.mint.digest(sending.text),
            "body_sha": self.mint.digest(request.body), "fate": name, "code": code, "accepted": accepted,
            "message_id": message_id, "outcome": journey.outcome if journey is not None else None,
        })  # fmt: skip

        def closed(done: Request) -> None:
            number.tally.open_requests -= 1
            self.open_sends.pop(key, None)
            self.witness.note(
                "request_closed", request=key, number=number.id, message_id=message_id, how=done.closed,
                answered=done.closed == "answered", http_status=done.status or None,
            )  # fmt: skip

        if request.closed is not None:
            closed(request)
        request.on_closed = closed

    def accept(self, sending: Sending, message: Message, on_status: StatusHook,
               on_reply: Callable[[Message, str, bool], None]) -> Journey:  # fmt: skip
        """Keep an accepted message and set its journey off."""
        assert sending.chance is not None
        journey = plan(sending.number.behaviour, sending.card, sending.chance)
        if self.mailbox.add(message):
            self.travel(sending, journey, message, on_status, on_reply)
        return journey

    def travel(self, sending: Sending, journey: Journey, message: Message, on_status: StatusHook,
               on_reply: Callable[[Message, str, bool], None]) -> None:  # fmt: skip
        """Plan the statuses and the reply."""
        number, card, chance = sending.number, sending.card, sending.chance
        assert chance is not None
        early = card is not None and card.early
        answered_s = 0.0 if early else sending.delay_s * self.settings.time_scale
        for step in journey.steps:
            copies = card.copies if card is not None else 1
            delays = () if card is not None and card.lost else webhook_delays_s(number.effective, chance)
            at_s = answered_s + step.after_s
            self.later(at_s, self.take_step, message, step, self.epoch, delays[:1] == (0.0,) and on_status)
            for delay_s in (delays * copies)[delays[:1] == (0.0,) :]:
                self.later(at_s + delay_s, self.report, message, step, on_status, self.epoch)
            if not delays:
                self.witness.note("webhook_lost", number=number.id, items=[(message.id, step.status)])
        if journey.reply is not None:
            after_s = answered_s + journey.reply_after_s
            self.later(after_s, self._reply, message, journey, on_reply, self.epoch)

    def take_step(self, message: Message, step: Step, epoch: int, on_status: StatusHook | bool) -> None:
        """The message itself moves on; the receiver hears of it at once if `on_status` is given."""
        if epoch != self.epoch:
            return
        message.statuses.append((step.status, now_ms(), step.code))
        if callable(on_status):
            on_status(message, step)

    def report(self, message: Message, step: Step, on_status: StatusHook, epoch: int) -> None:
        """Tell the receiver."""
        if epoch == self.epoch:
            on_status(message, step)

    def _reply(self, message: Message, journey: Journey, on_reply: Callable[[Message, str, bool], None],
               epoch: int) -> None:  # fmt: skip
        if epoch == self.epoch and journey.reply is not None:
            on_reply(message, journey.reply, journey.bsuid)


def _name(fate: Fate, code: int | None) -> str:
    """The fate's word in the log."""
    match fate:
        case Accept():
            return "accepted" if code is None else "rejected"
        case Garble():
            return "garbled"
        case Reject():
            return "rejected"
        case Throttle():
            return "throttled"
        case Break(accepted=accepted):
            return "accepted_5xx" if accepted else "5xx"
        case Silence(accepted=accepted, how=how):
            return "lost_answer" if accepted else how
