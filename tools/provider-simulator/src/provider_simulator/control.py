"""The control API under /_control: numbers, faults, statistics, people. README.md documents it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from provider_simulator.cards import CARDS
from provider_simulator.door import Request
from provider_simulator.faults import QUIET
from provider_simulator.fixtures import add_number, settings_from
from provider_simulator.gateways import Gateways
from provider_simulator.graph import verify
from provider_simulator.numbers import Number, configure, template_from
from provider_simulator.people import canonical_phone, digits_of, person_key
from provider_simulator.settings import SettingRefused, Settings, overlay
from provider_simulator.world import World, now_ms


class Control:
    """Answers /_control requests."""

    def __init__(self, world: World, gateways: Gateways) -> None:
        self._world = world
        self._gateways = gateways
        self._actions: dict[tuple[str, str], Callable[[Request, list[str]], None]] = {
            ("GET", "health"): self._health,
            ("GET", "numbers"): self._numbers,
            ("POST", "numbers"): self._add_number,
            ("PATCH", "numbers"): self._change_number,
            ("DELETE", "numbers"): self._remove_number,
            ("GET", "faults"): self._faults,
            ("PUT", "faults"): self._set_faults,
            ("GET", "settings"): self._settings,
            ("PATCH", "settings"): self._change_settings,
            ("POST", "templates"): self._add_template,
            ("GET", "stats"): self._stats,
            ("GET", "open"): self._open,
            ("GET", "messages"): self._messages,
            ("GET", "cards"): self._cards,
            ("POST", "inbound"): self._inbound,
            ("POST", "verify"): self._verify,
            ("POST", "event"): self._event,
            ("POST", "reset"): self._reset,
        }

    def handle(self, request: Request, parts: list[str]) -> None:
        """`parts` is the path below /_control."""
        action = self._actions.get((request.method, parts[0] if parts else ""))
        if action is None:
            request.answer(404, {"error": f"no {request.method} {request.path}"})
            return
        try:
            action(request, parts[1:])
        except (SettingRefused, ValueError, KeyError, TypeError, AttributeError) as error:
            request.answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _number(self, name: str) -> Number:
        number = self._world.numbers.get(name)
        if number is None:
            raise SettingRefused(f"no number {name!r}")
        return number

    def _note(self, _request: Request, what: str, **fields: Any) -> None:
        self._world.witness.note("control", what=what, **fields)

    def _health(self, request: Request, _rest: list[str]) -> None:
        request.answer(200, {"status": "ok", "numbers": len(self._world.numbers)})

    def _numbers(self, request: Request, rest: list[str]) -> None:
        if rest:
            request.answer(200, self._number(rest[0]).as_json())
        else:
            request.answer(200, {"numbers": [number.as_json() for number in self._world.numbers.values()]})

    def _add_number(self, request: Request, _rest: list[str]) -> None:
        data = request.json()
        number = add_number(self._world, data)
        self._note(request, "number_added", number=number.id, kind=number.kind)
        request.answer(201, number.as_json())

    def _change_number(self, request: Request, rest: list[str]) -> None:
        number = self._number(rest[0])
        data = request.json()
        state = data.pop("state", None)
        configure(number, data)
        self._world.refresh_faults(number)
        if state is not None and state != number.state:
            self._gateways.change_state(number, state)
        self._note(request, "number_changed", number=number.id, change=data, state=number.state)
        request.answer(200, number.as_json())

    def _remove_number(self, request: Request, rest: list[str]) -> None:
        number = self._number(rest[0])
        del self._world.numbers[number.id]
        self._note(request, "number_removed", number=number.id)
        request.answer(200, {"removed": number.id})

    def _faults(self, request: Request, rest: list[str]) -> None:
        request.answer(200, asdict(self._number(rest[0]).effective if rest else self._world.faults))

    def _set_faults(self, request: Request, rest: list[str]) -> None:
        data = request.json()
        if rest:
            number = self._number(rest[0])
            configure(number, {"faults": data})
            self._world.refresh_faults(number)
        else:
            self._world.faults = overlay(QUIET, data)
            for number in self._world.numbers.values():
                self._world.refresh_faults(number)
        self._note(request, "faults_set", number=rest[0] if rest else None, faults=data)
        request.answer(200, data)

    def _settings(self, request: Request, _rest: list[str]) -> None:
        request.answer(200, {**asdict(self._world.settings), "delivery": asdict(self._world.delivery)})

    def _change_settings(self, request: Request, rest: list[str]) -> None:
        data = request.json()
        delivery = overlay(self._world.delivery, data.pop("delivery", {}))
        settings: Settings = settings_from(self._world.settings, data)
        self._world.settings, self._world.delivery = settings, delivery
        self._world.postman.timeout_s = delivery.timeout_s
        self._note(request, "settings_changed", change=data)
        self._settings(request, rest)

    def _add_template(self, request: Request, _rest: list[str]) -> None:
        data = request.json()
        waba = data.pop("waba")
        template = template_from(data, self._world.mint.digits())
        self._world.templates.setdefault(waba, {})[(template.name, template.language)] = template
        request.answer(201, template.as_json())

    def _stats(self, request: Request, _rest: list[str]) -> None:
        world = self._world
        world.witness.flush()  # who asks for numbers may read the log next
        at_ms = now_ms()
        numbers = {
            number.id: {
                "kind": number.kind, "state": number.state, "fates": dict(number.tally.fates),
                "requests": number.tally.fates.total(), "open_requests": number.tally.open_requests,
                "max_in_sliding_second": number.tally.arrivals.peak,
                "unique_24h": number.uniques.count(at_ms), "webhooks": dict(number.tally.webhooks),
            }
            for number in world.numbers.values()
        }  # fmt: skip
        request.answer(200, {
            "numbers": numbers, "messages_kept": len(world.mailbox), "log_lines": world.witness.seen,
            "open_requests": len(world.open_sends), "planned": len(world.agenda),
            "webhooks": {
                "open": world.postman.under_way(), "waiting": world.postman.waiting(),
                "retrying": world.callbacks.retrying,
            },
        })  # fmt: skip

    def _open(self, request: Request, _rest: list[str]) -> None:
        request.answer(200, {"open": [
            {"request": key, "number": s.number.id, "to": s.to, "label": s.label,
             "at_ms": s.request.at_ms, "fate": type(s.fate).__name__}
            for key, s in self._world.open_sends.items()
        ]})  # fmt: skip

    def _messages(self, request: Request, _rest: list[str]) -> None:
        query = parse_qs(request.query)
        if "id" in query:
            message = self._world.mailbox.find(query["id"][0])
            found = [message] if message is not None else []
        elif "phone" in query:
            found = self._world.mailbox.of_person(digits_of(query["phone"][0]))
        else:
            found = self._world.mailbox.of_number(query["number"][0])
        request.answer(200, {"messages": [message.as_json() for message in found]})

    def _cards(self, request: Request, _rest: list[str]) -> None:
        request.answer(200, {f"996600{suffix}": card.meaning for suffix, card in CARDS.items()})

    def _inbound(self, request: Request, _rest: list[str]) -> None:
        data = request.json()
        number = self._number(data["number"])
        phone = canonical_phone(digits_of(data["phone"]))
        content = data.get("content") or {"type": "text", "text": {"body": data["text"]}}
        message_id = self._gateways.write_in(
            number, person_key(phone), phone, content, name=data.get("name", "Pessoa"),
            bsuid=bool(data.get("bsuid")),
        )  # fmt: skip
        request.answer(200, {"id": message_id})

    def _verify(self, request: Request, _rest: list[str]) -> None:
        number = self._number(request.json()["number"])

        def done(ok: bool, why: str) -> None:
            request.answer(200, {"ok": ok, "why": why})

        verify(self._world, number.hook.url, number.verify_token, done)

    def _event(self, request: Request, _rest: list[str]) -> None:
        data = request.json()
        number = self._number(data["number"])
        self._gateways.tell(number, data)
        self._note(request, "event", number=number.id, kind=data.get("field") or data.get("kind"))
        request.answer(200, {"posted": True})

    def _reset(self, request: Request, _rest: list[str]) -> None:
        self._world.reset()
        self._note(request, "reset")
        request.answer(200, {"reset": True})
