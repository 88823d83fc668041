"""Evolution's sends and chat calls, on both integrations, and the events that follow."""

from typing import Any

from provider_simulator import evolution_webhooks as webhooks
from provider_simulator.door import Request
from provider_simulator.evolution_bodies import (
    NETWORK_ON_CLOUD,
    NOT_AVAILABLE,
    NOT_ON_CLOUD,
    OWN_ID_HONOURED,
    REQUIRED,
    EvolutionError,
    check_media,
    check_send,
    jid_of,
    media_of,
    message_of,
    number_missing,
    text_of,
)  # fmt: skip
from provider_simulator.evolution_instances import Instances
from provider_simulator.faults import (
    ACCEPT,
    Accept,
    Break,
    Garble,
    Reject,
    Silence,
    Throttle,
    is_accepted,
)  # fmt: skip
from provider_simulator.journeys import Journey, Step, plan
from provider_simulator.meta import GARBLED
from provider_simulator.meta_errors import GraphError, inner
from provider_simulator.meta_templates import check_template
from provider_simulator.numbers import Number
from provider_simulator.people import Message, canonical_phone, digits_of, private_id
from provider_simulator.world import Sending, World, now_ms

CLOSED = EvolutionError(500, "Connection Closed")
RESTARTING = EvolutionError(500, "Cannot read properties of undefined (reading 'sendMessage')")
Answer = EvolutionError | tuple[int, Any] | None


class EvolutionMessages:
    """POST /message/<verb>/{instance} and /chat/…"""

    def __init__(self, world: World, instances: Instances) -> None:
        self._world = world
        self._instances = instances

    def send(self, request: Request, number: Number, verb: str) -> Answer:
        """One send: validate, look the number up, draw the fate. None: answered later or never."""
        if verb not in REQUIRED:
            return EvolutionError(404, [f"Cannot POST {request.path}"])
        try:
            body = request.json()
        except ValueError:
            body = None
        sending = Sending(request, number, kind=verb)
        error = check_send(verb, body)
        if error is None:
            target = body["key"].get("remoteJid", "") if verb == "sendReaction" else body.get("number", "")
            sending.text = text_of(verb, body)
            sending.template = body["name"] if verb == "sendTemplate" else None
            self._world.draw(sending, digits_of(target.partition("@")[0]) or target)
            error = self._refusal(sending, verb, body, target)
        if error is not None:
            sending.fate = Reject(error.http_status)
            self._world.open(sending, None, None, error.http_status)
            return error
        delay_ms = body.get("delay") or 0
        sending.delay_s += delay_ms / 1000 / self._world.settings.time_scale
        return self._cloud(sending, verb, body) if number.kind == "evolution_cloud" else self._web(
            sending, verb, body)  # fmt: skip

    def _refusal(self, sending: Sending, verb: str, body: dict[str, Any], target: str) -> EvolutionError | None:
        """What is refused before anything leaves."""
        number = sending.number
        cloud = number.kind == "evolution_cloud"
        if verb in NOT_ON_CLOUD and cloud:
            return NOT_AVAILABLE
        if verb == "sendTemplate" and not cloud:
            return EvolutionError(500, "Method not available on WhatsApp Baileys")
        if not cloud and number.state == "connecting":
            return RESTARTING
        if not cloud and number.state != "open":
            return CLOSED
        media = media_of(body)
        error = check_media(media) if media is not None else None
        if error is None and not cloud and (
            sending.fate == Reject(131026) or self._world.is_missing(number, sending.person)
        ):  # fmt: skip
            return number_missing(jid_of(target), target)
        return error

    def _cloud(self, sending: Sending, verb: str, body: dict[str, Any]) -> Answer:
        """The Cloud integration passes Meta's refusal on as 201 without a key."""
        graph = self._world.numbers.get(sending.number.graph_number)
        error: GraphError | None = None
        if graph is not None and graph.kind == "meta":
            if graph.token != sending.number.token:
                self._world.open(sending, None, None, 190)
                return NETWORK_ON_CLOUD
            if not graph.throughput.take(sending.request.mono_ns):
                sending.fate, error = Throttle(), GraphError(130429)
            elif verb == "sendTemplate":
                content = {**body, "language": {"code": body["language"]}}
                error = check_template(self._world.templates.get(graph.waba, {}), content)
        match sending.fate:
            case Reject(code=code) | Throttle(code=code):
                error = error or GraphError(code)
            case _:
                pass
        if error is not None:
            if not isinstance(sending.fate, Throttle):
                sending.fate = Reject(error.code)
            self._world.open(sending, None, None, error.code)
            body_out = inner(error, "A" + self._world.mint.web_id())
            self._world.soon(sending.delay_s, sending.request.answer, 201, body_out)
            return None
        return self._accept(sending, verb, body, self._world.mint.wamid(canonical_phone(sending.to)))

    def _web(self, sending: Sending, verb: str, body: dict[str, Any]) -> Answer:
        """A web session: there is no throttle; what WhatsApp dislikes is acknowledged as ERROR later."""
        own_id = body.get("messageId")
        honours = self._world.settings.evolution_version.startswith("2.4") and verb in OWN_ID_HONOURED
        message_id = own_id if honours and isinstance(own_id, str) and own_id else self._world.mint.web_id()
        return self._accept(sending, verb, body, message_id)

    def _accept(self, sending: Sending, verb: str, body: dict[str, Any], message_id: str) -> Answer:
        number, world = sending.number, self._world
        nacked = isinstance(sending.fate, Reject | Throttle)
        if nacked:
            sending.fate = ACCEPT
        if not is_accepted(sending.fate):
            # The client is told that it never left: a code in the log, as for every answer that proves that.
            proven = number.kind == "evolution_web" and isinstance(sending.fate, Break) and sending.fate.readable
            world.open(sending, None, None, CLOSED.http_status if proven else None)
            world.soon(sending.delay_s, self._answer, sending, None)
            return None
        target = body["key"].get("remoteJid", "") if verb == "sendReaction" else body["number"]
        message = Message(message_id, number.kind, number.id, sending.person, jid_of(target), verb, sending.text,
                          now_ms(), row=world.mint.row_id())  # fmt: skip
        kind, content = message_of(verb, body)
        data = webhooks.sent_data(number, message, kind, content)
        journey = self._start(sending, message, nacked)
        world.open(sending, message.id, journey)
        if sending.card is None or not sending.card.lost:
            world.soon(sending.delay_s, self._instances.emit, number, "send.message", data, ((message.id, "sent"),))
        world.soon(sending.delay_s, self._answer, sending, data)
        return None

    def _start(self, sending: Sending, message: Message, nacked: bool) -> Journey:
        assert sending.chance is not None
        if nacked:
            journey = Journey((Step(0.3, "failed", 463),))
        else:
            journey = plan(sending.number.behaviour, sending.card, sending.chance)
        if self._world.mailbox.add(message):  # the same id again is the same message for the receiver
            self._world.travel(sending, journey, message, self._on_status, self._on_reply)
        return journey

    def _answer(self, sending: Sending, data: dict[str, Any] | None) -> None:
        """What the client gets to see of the fate."""
        request, cloud = sending.request, sending.number.kind == "evolution_cloud"
        match sending.fate:
            case Accept():
                request.answer(201, data)
            case Garble():
                request.answer(201, GARBLED, content_type="text/html")
            case Break(accepted=accepted, readable=readable):
                if cloud:
                    error = NETWORK_ON_CLOUD
                elif accepted:
                    error = EvolutionError(400, ["Error: Timed Out"])
                else:
                    error = CLOSED if readable else EvolutionError(500, "Internal server error")
                request.answer(error.http_status, error.body())
            case Silence(how="reset"):
                request.abort()
            case Silence() | Reject() | Throttle():
                return

    def _on_status(self, message: Message, step: Step) -> None:
        number = self._world.numbers.get(message.number)
        if number is not None:
            data = webhooks.update_data(number, message, step)
            self._instances.emit(number, "messages.update", data, ((message.id, step.status),))

    def _on_reply(self, message: Message, text: str, bsuid: bool) -> None:
        number = self._world.numbers.get(message.number)
        if number is not None:
            phone = message.to.partition("@")[0]
            self.write_in(number, message.person, phone, {"text": {"body": text}}, name="Pessoa", lid=bsuid)

    def write_in(self, number: Number, person: str, phone: str, content: dict[str, Any], *, name: str,
                 lid: bool = False) -> str:  # fmt: skip
        """A person writes to the instance; returns the message's id."""
        world = self._world
        cloud = number.kind == "evolution_cloud"
        message_id = world.mint.wamid(phone) if cloud else world.mint.phone_id()
        kind, message, text = webhooks.inbound_message(content)
        world.mailbox.add(Message(message_id, number.kind, number.id, person, f"{phone}@s.whatsapp.net", kind, text,
                                  now_ms(), False, row=world.mint.row_id()))  # fmt: skip
        world.witness.note("inbound", provider=number.kind, number=number.id, person=person, message_id=message_id,
                           kind=kind, text=text)  # fmt: skip
        version = world.settings.evolution_version
        key = webhooks.inbound_key(number, message_id, phone, private_id(person) if lid else None, version)
        self._instances.emit(number, "messages.upsert", {
            "key": key, "pushName": name, "status": "DELIVERY_ACK", "message": message, "contextInfo": None,
            "messageType": kind, "messageTimestamp": now_ms() // 1000, "instanceId": number.row_id,
            "source": "unknown" if cloud else "android",
        }, ((message_id, kind),))  # fmt: skip
        return message_id
