"""Meta's Cloud API: sending messages, strict as PROVIDERS describes, and the webhooks that follow."""

import time
from typing import Any

from provider_simulator import meta_webhooks
from provider_simulator.door import Request
from provider_simulator.faults import ACCEPT, Accept, Break, Fate, Garble, Reject, Silence, Throttle
from provider_simulator.journeys import Journey, Step
from provider_simulator.meta_bodies import check_content, check_envelope, text_of
from provider_simulator.meta_errors import GraphError, inner, status_of
from provider_simulator.meta_templates import check_template, rendered
from provider_simulator.numbers import Number
from provider_simulator.people import (
    Message,
    business_scoped_id,
    canonical_phone,
    digits_of,
    person_key,
)  # fmt: skip
from provider_simulator.world import Sending, World, now_ms

_STATE_ERRORS = {
    "deleted": GraphError(33), "banned": GraphError(131031), "unregistered": GraphError(133010),
    "close": GraphError(133010), "connecting": GraphError(133010), "unpaid": GraphError(131042),
    "flagged": GraphError(131048),
}  # fmt: skip
GARBLED = b"<html><body>upstream connect error</body></html>"


class MetaMessages:
    """POST /v{n}.0/{phone number id}/messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def trace(self) -> str:
        """A trace id as Meta adds to errors."""
        return "A" + self._world.mint.web_id()[4:]

    def refuse(self, request: Request, error: GraphError) -> None:
        """Answer with an error."""
        request.answer(status_of(error), {"error": inner(error, self.trace())})

    def authenticate(self, request: Request, number: Number | None) -> GraphError | None:
        """A bearer token of this number; of another one the permission is missing."""
        scheme, _, token = request.header(b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return GraphError(190)
        if number is not None and token == number.token:
            return None
        if any(other.token == token for other in self._world.numbers.values() if other.kind == "meta"):
            return GraphError(10 if number is not None else 100, subcode=None if number is not None else 33)
        return GraphError(190, subcode=463)

    def send(self, request: Request, phone_number_id: str) -> None:
        """One POST: authenticate, limit, validate, draw the fate, answer."""
        number = self._world.numbers.get(phone_number_id)
        error = self.authenticate(request, number if number and number.kind == "meta" else None)
        if number is None or number.kind != "meta":
            self._world.witness.note_at("refused", request.at_ms, request.mono_ns, {
                "provider": "meta", "number": phone_number_id, "path": request.path,
                "code": (error or GraphError(100)).code,
            })  # fmt: skip
            self.refuse(request, error or GraphError(100, "Unsupported post request.", subcode=33))
            return
        sending = Sending(request, number)
        try:
            body: Any = request.json()
        except ValueError:
            body = None
        if isinstance(body, dict) and "status" in body and error is None:
            self._mark_read(request, number, body)
            return
        self._describe(sending, body)
        error = error or self._check(sending, body)
        if error is not None:
            self._refuse_logged(sending, error)
        else:
            self._settle(sending, body)

    def _mark_read(self, request: Request, number: Number, body: dict[str, Any]) -> None:
        if body.get("messaging_product") != "whatsapp" or body.get("status") != "read":
            self.refuse(request, GraphError(100, "Param status must be one of {READ}."))
        elif not body.get("message_id"):
            self.refuse(request, GraphError(131008, "Parameter 'message_id' is mandatory."))
        else:
            self._world.witness.note("marked_read", number=number.id, message_id=body["message_id"])
            request.answer(200, {"success": True})

    def _describe(self, sending: Sending, body: Any) -> None:
        if not isinstance(body, dict):
            return
        sending.kind = str(body.get("type", "text"))
        label = body.get("biz_opaque_callback_data")
        sending.label = label if isinstance(label, str) else None
        content = body.get("template")
        if sending.kind == "template" and isinstance(content, dict) and isinstance(content.get("name"), str):
            sending.template = content["name"]
        sending.text = text_of(body)
        to = body.get("to") or body.get("recipient") or ""
        sending.to = str(to)
        sending.person = person_key(digits_of(sending.to)) if body.get("to") else sending.to

    def _check(self, sending: Sending, body: Any) -> GraphError | None:
        """Everything that Meta checks before it looks at the recipient."""
        number = sending.number
        if number.state != "open":
            return _STATE_ERRORS.get(number.state)
        if not number.throughput.take(sending.request.mono_ns):
            sending.fate = Throttle()
            return GraphError(130429, http_status=number.limits.throttle_status)
        error = check_envelope(body)
        if error is None:
            error = check_content(body, self._world.settings.plain_hosts, self._world.media)
        if error is None and sending.kind == "template":
            templates = self._world.templates.get(number.waba, {})
            error = check_template(templates, body["template"])
            if error is None:
                key = (body["template"]["name"], body["template"]["language"]["code"])
                sending.text = rendered(templates[key], body["template"])
        if error is None and sending.person == person_key(number.phone):
            error = GraphError(131021)
        return error

    def _settle(self, sending: Sending, body: dict[str, Any]) -> None:
        """Valid: the recipient's own limits, the fate, then the course of the message."""
        number, world = sending.number, self._world
        world.draw(sending, digits_of(sending.to) if body.get("to") else sending.to)
        if sending.fate is ACCEPT:
            sending.fate = self._recipient_fate(sending)
        code = _code_of(sending.fate)
        if isinstance(sending.fate, Reject | Throttle) or (
            isinstance(sending.fate, Break | Silence) and not sending.fate.accepted
        ):
            world.open(sending, None, None, code)
            world.soon(sending.delay_s, self._answer, sending, None, "")
            return
        wa_id = canonical_phone(sending.to) if sending.to.isdigit() else ""
        message = Message(
            world.mint.wamid(wa_id or "0"), "meta", number.id, sending.person, wa_id or sending.to,
            sending.kind, sending.text, now_ms(), label=sending.label,
        )  # fmt: skip
        journey = self._start(sending, message)
        world.open(sending, message.id, journey, code)
        world.soon(sending.delay_s, self._answer, sending, message, wa_id)

    def _recipient_fate(self, sending: Sending) -> Fate:
        number, request = sending.number, sending.request
        limits = number.limits
        if limits.pair_interval_s is not None and not number.pairs.take(sending.person, request.mono_ns):
            return Throttle(131056)
        if limits.enforce_window and sending.kind != "template":
            last_ms = number.windows.get(sending.person, 0)
            if request.at_ms - last_ms > limits.window_s * 1000:
                return Reject(131047)
        return ACCEPT

    def _start(self, sending: Sending, message: Message) -> Journey:
        """Charge the messaging limit; beyond it a message is accepted and then fails."""
        number, world = sending.number, self._world
        in_window = number.windows.get(sending.person, 0) > sending.request.at_ms - 24 * 3600 * 1000
        if not in_window and not number.uniques.take(sending.person, sending.request.at_ms):
            failed = Journey((Step(0.5, "failed", number.limits.unique_exceeded_code),))
            world.mailbox.add(message)
            world.travel(sending, failed, message, self._on_status, self._on_reply)
            return failed
        return world.accept(sending, message, self._on_status, self._on_reply)

    def _on_status(self, message: Message, step: Step) -> None:
        number = self._world.numbers.get(message.number)
        if number is not None and number.hook.url:
            status = meta_webhooks.status_entry(message, step, int(time.time()))
            self._world.callbacks.post_meta_status(number, status, (message.id, step.status))

    def _on_reply(self, message: Message, text: str, bsuid: bool) -> None:
        number = self._world.numbers.get(message.number)
        if number is not None:
            self.write_in(number, message.person, message.to, {"type": "text", "text": {"body": text}}, bsuid=bsuid)

    def write_in(self, number: Number, person: str, phone: str, content: dict[str, Any], *,
                 bsuid: bool = False, name: str = "Pessoa") -> str:  # fmt: skip
        """A person writes to the number; opens the 24-hour window. Returns the message's id."""
        world = self._world
        number.windows[person] = now_ms()
        message_id = world.mint.wamid(phone if phone.isdigit() else "0")
        kind = str(content.get("type", "text"))
        text = str(content.get("text", {}).get("body", "")) if kind == "text" else ""
        world.mailbox.add(Message(message_id, "meta", number.id, person, phone, kind, text, now_ms(), False))
        world.witness.note("inbound", provider="meta", number=number.id, person=person, message_id=message_id,
                           kind=kind, text=text)  # fmt: skip
        user_id = business_scoped_id(person)
        value = meta_webhooks.inbound_value(
            number, message_id, int(time.time()), content, name, None if bsuid else phone, user_id
        )
        if number.hook.url:
            world.callbacks.post_meta(number, value, "message", ((message_id, kind),))
        return message_id

    def _refuse_logged(self, sending: Sending, error: GraphError) -> None:
        if not isinstance(sending.fate, Throttle):
            sending.fate = Reject(error.code)
        self._world.open(sending, None, None, error.code)
        self.refuse(sending.request, error)

    def _answer(self, sending: Sending, message: Message | None, wa_id: str) -> None:
        """What the client gets to see of the fate."""
        request = sending.request
        match sending.fate:
            case Accept():
                assert message is not None
                request.answer(200, accepted_body(sending.to, wa_id, message.id))
            case Garble():
                request.answer(200, GARBLED, content_type="text/html")
            case Reject(code=code):
                self.refuse(request, GraphError(code))
            case Throttle(code=code):
                status = sending.number.limits.throttle_status if code == 130429 else None
                self.refuse(request, GraphError(code, http_status=status))
            case Break(readable=True, code=code):
                self.refuse(request, GraphError(code))
            case Break():
                request.answer(500, GARBLED, content_type="text/html")
            case Silence(how="reset"):
                request.abort()
            case Silence():
                return


def accepted_body(to: str, wa_id: str, message_id: str) -> dict[str, Any]:
    """The answer to an accepted message."""
    contact = {"input": to, "wa_id": wa_id} if wa_id else {"input": to, "user_id": to}
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": message_id}]}


def _code_of(fate: Fate) -> int | None:
    match fate:
        case Reject(code=code) | Throttle(code=code):
            return code
        case Break(readable=True, code=code):
            return code
        case _:
            return None
