"""Z-API's queue of one instance: sequential, with gaps, waiting while disconnected; and the callbacks."""

from typing import Any

import orjson

from provider_simulator import zapi_bodies as bodies
from provider_simulator.callbacks import Webhook, header_lines
from provider_simulator.faults import Chance, Reject, Throttle
from provider_simulator.journeys import Journey, Step, plan
from provider_simulator.numbers import Number, Queued
from provider_simulator.people import Message
from provider_simulator.world import Sending, World, now_ms


class ZapiQueues:
    """Moves queued messages out and tells the receiver what became of them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def post(self, number: Number, kind: str, body: dict[str, Any], items: tuple[tuple[str, str], ...]) -> None:
        """Post a callback to the URL of its kind."""
        url = number.hook.by_kind.get(kind) or number.hook.url
        if not url:
            return
        headers = header_lines({
            "content-type": "application/json", "z-api-token": number.token, "origin": "https://api.z-api.io",
            "server": "Z-API", "user-agent": bodies.AGENT, **number.hook.headers,
        })  # fmt: skip
        callback = Webhook(number, str(body["type"]), items, url, headers, orjson.dumps(body))
        self._world.callbacks.post(callback)

    def enqueue(self, sending: Sending, message: Message, body: dict[str, Any], created_at: str) -> Journey:
        """Put it at the end; its future is already drawn."""
        number = sending.number
        assert sending.chance is not None
        journey = self._journey(sending, sending.chance)
        queued = Queued(bodies.queue_entry(number, message, body, created_at), sending, message, journey)
        number.queue.append(queued)
        self.pump(number)
        return journey

    def _journey(self, sending: Sending, chance: Chance) -> Journey:
        """What is refused elsewhere shows here only in the DeliveryCallback."""
        match sending.fate:
            case Reject(code=code) | Throttle(code=code):
                return Journey((Step(0.1, "failed", code),))
            case _:
                pass
        if self._world.is_missing(sending.number, sending.person):
            return Journey((Step(0.1, "failed", 131026),))
        return plan(sending.number.behaviour, sending.card, chance)

    def pump(self, number: Number) -> None:
        """Start the wait for the head of the queue, if nothing waits yet and the instance is connected."""
        if number.pumping or not number.queue or number.state != "open":
            return
        head: Queued = number.queue[0]
        chance = head.sending.chance
        delay_s = head.entry["DelayMessage"] or chance.between(number.behaviour.queue_gap_s)
        number.pumping = True
        self._world.later(delay_s, self._depart, number, head, self._world.epoch)

    def _depart(self, number: Number, head: Queued, epoch: int) -> None:
        if epoch != self._world.epoch:
            return
        number.pumping = False
        if number.state == "open" and number.queue and number.queue[0] is head:
            number.queue.popleft()
            self._leave(number, head)
        self.pump(number)

    def _leave(self, number: Number, head: Queued) -> None:
        world, message = self._world, head.message
        world.witness.note("queue_departed", provider="zapi", number=number.id, message_id=message.id,
                           person=message.person, queued_ms=now_ms() - message.at_ms)  # fmt: skip
        head.sending.delay_s = 0.0  # answered long ago
        if world.mailbox.add(message):
            world.travel(head.sending, head.journey, message, self._on_status, self._on_reply)

    def _on_status(self, message: Message, step: Step) -> None:
        number = self._world.numbers.get(message.number)
        if number is None:
            return
        at_ms, items = now_ms(), ((message.id, step.status),)
        if step.status in ("sent", "failed"):
            self.post(number, "delivery", bodies.delivery(number, message, at_ms, step.code), items)
        if step.status == "sent" and number.hook.notify_sent_by_me:
            echo = bodies.received(number, message, {"text": {"message": message.text}}, number.name, lid=False)
            self.post(number, "received", echo, ((message.id, "echo"),))
        if step.status != "failed":
            self.post(number, "message-status", bodies.status(number, message, step, at_ms), items)

    def _on_reply(self, message: Message, text: str, bsuid: bool) -> None:
        number = self._world.numbers.get(message.number)
        if number is not None:
            content = {"text": {"body": text}}
            self.write_in(number, message.person, message.to, content, name="Pessoa", lid=bsuid)

    def write_in(self, number: Number, person: str, phone: str, content: dict[str, Any], *, name: str,
                 lid: bool = False) -> str:  # fmt: skip
        """A person writes to the instance; returns the message's id."""
        world = self._world
        if content.get("type", "text") == "text":
            text = str(content.get("text", {}).get("body", ""))
            content = {"text": {"message": text}}
        else:
            text = ""
            content = {name: value for name, value in content.items() if name != "type"}
        message = Message(world.mint.phone_id(), "zapi", number.id, person, phone, next(iter(content), ""), text,
                          now_ms(), False)  # fmt: skip
        world.mailbox.add(message)
        world.witness.note("inbound", provider="zapi", number=number.id, person=person, message_id=message.id,
                           kind=message.kind, text=text)  # fmt: skip
        if number.state in ("open", "unpaid"):  # a disconnected instance hears nothing
            body = bodies.received(number, message, content, name, lid=lid)
            self.post(number, "received", body, ((message.id, message.kind),))
        return message.id

    def set_connected(self, number: Number, connected: bool, *, tell: bool = True) -> None:
        """Connect or disconnect; on connecting the queue flows again."""
        number.generation += 1
        number.state = "open" if connected else "close"
        self._world.witness.note("connection", provider="zapi", number=number.id, state=number.state)
        if connected:
            body = {"type": "ConnectedCallback", "connected": True, "momment": now_ms(),
                    "instanceId": number.id, "phone": number.phone}  # fmt: skip
            self.post(number, "connected", body, ())
            self.pump(number)
        elif tell:
            body = {"momment": now_ms() // 1000, "error": "Device has been disconnected", "disconnected": True,
                    "type": "DisconnectedCallback", "instanceId": number.id}  # fmt: skip
            self.post(number, "disconnected", body, ())
