"""The providers in the simulation.

They read the bytes of real requests and answer with bytes; an answer may be lost after the message was accepted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from contracts import ids
from contracts.messages import MessageQueued
from providers.protocol import HttpRequest, SendOutcome, read_transport_failure
from sender.work import Instance
from simulation.clock import START, Loop, Steps
from simulation.town import Town
from simulation.witness import Post, Witness


class Answer(NamedTuple):
    """`after_s` None: never. `outcome`: of the connection itself."""

    after_s: float | None
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    outcome: SendOutcome | None = None


@dataclass(eq=False)
class Provider:
    """`deliver` hands a webhook to the door, over and over until it is taken."""

    town: Town
    loop: Loop
    witness: Witness
    healed: bool = False
    deliver: Callable[[Instance, bytes], Steps[bool]] | None = None
    spawn: Callable[[Steps[None]], Any] | None = None
    _made: int = 0
    _lanes: int = 0

    def count_lane(self) -> int:
        """A lane of a process's life begins: what it has learnt of its number's pace ends with it."""
        self._lanes += 1
        return self._lanes

    def post(self, instance: Instance, request: HttpRequest, message: MessageQueued, lane: int) -> Answer:
        """The request leaves now. Whom and what it is for is read from its bytes."""
        rng = self.loop.rng
        fate = self._draw_fate()
        if fate == "not_connected":
            return Answer(rng.uniform(0.01, 3), outcome=read_transport_failure("connect"))
        body = orjson.loads(request.body)
        phone = body.get("to") or body["number"]
        text = body["text"]["body"] if isinstance(body["text"], dict) else body["text"]
        campaign_id, step = self.town.texts[text]
        recipient = ids.phone_key(phone)
        post = Post(
            self.loop.now, instance.instance_id, ids.dispatch_id(ids.recipient_id(campaign_id, recipient), step),
            campaign_id, step, recipient, message.run_epoch, fate,
            lane=lane, attempt=message.attempt, release=message.release,
            accepted=fate in ("accept", "answer_lost", "unreadable"),
            arrived_s=self.loop.now + rng.uniform(0, 0.0 if self.town.faults.late_departures else 0.01),
        )  # fmt: skip
        self.witness.posts.append(post)
        if post.accepted:
            self._made += 1
            post.provider_message_id = f"wamid.{self._made}" if instance.labelled else f"3EB{self._made}"
            self._report(instance, post, phone, text, body.get("biz_opaque_callback_data"))
        answer = self._answer(instance, post, phone)
        post.answered_s = None if answer.after_s is None else self.loop.now + answer.after_s
        return answer

    def _draw_fate(self) -> str:
        if self.healed:
            return "accept"
        fates = self.town.moods.fates
        return self.loop.rng.choices(list(fates), list(fates.values()))[0]

    def _answer(self, instance: Instance, post: Post, phone: str) -> Answer:
        rng = self.loop.rng
        after_s = rng.choice((0.05, 0.2, 1.0, 4.0)) * rng.uniform(0.5, 1)
        meta = instance.labelled
        match post.fate:
            case "accept" if meta:
                body = {"messages": [{"id": post.provider_message_id}], "contacts": [{"wa_id": phone}]}
                return Answer(after_s, 200, orjson.dumps(body))
            case "accept":
                key = {"id": post.provider_message_id, "remoteJid": f"{phone}@s.whatsapp.net", "fromMe": True}
                return Answer(after_s, 201, orjson.dumps({"key": key}))
            case "answer_lost" | "swallowed":
                if rng.random() < 0.5:
                    return Answer(after_s, outcome=read_transport_failure("read"))
                return Answer(None)
            case "unreadable":
                return Answer(after_s, 502, b"<html>bad gateway</html>")
            case "refused":
                if meta:
                    return Answer(after_s, 400, _graph_error(131026))
                exists = {"response": {"message": [{"exists": False, "number": phone}]}, "status": 400}
                return Answer(after_s, 400, orjson.dumps(exists))
            case "busy":
                if meta:
                    return Answer(after_s, 500, _graph_error(131016))
                closed = {"status": 500, "response": {"message": "Connection Closed"}}
                return Answer(after_s, 500, orjson.dumps(closed))
            case _:
                if meta:
                    return Answer(after_s, 429, _graph_error(130429))
                return Answer(after_s, 429, orjson.dumps({"message": "Too Many Requests"}))

    # Webhooks

    def _report(self, instance: Instance, post: Post, phone: str, text: str, label: str | None) -> None:
        rng, moods = self.loop.rng, self.town.moods
        at_s = START.timestamp() + post.arrived_s
        statuses = ["sent"]
        if rng.random() < moods.failed_later:
            statuses = rng.choice((["failed"], ["sent", "failed"]))
        else:
            statuses += ["delivered", "read"][: rng.randint(0, 2)]
            if "delivered" in statuses and rng.random() < moods.failed_after_delivery:
                statuses.append("failed")
        bodies = [] if instance.labelled else [_echo(instance, post, phone, text, at_s)]
        for nth, status in enumerate(statuses):
            bodies.append(_status(instance, post, phone, status, at_s + nth, label))
        delay_s = 0.0
        for body in bodies:
            if rng.random() < moods.webhook_lost and not self.healed:
                continue
            delay_s += rng.uniform(0, moods.webhook_delay_s)
            own_s = rng.uniform(0, delay_s) if rng.random() < 0.2 else delay_s  # out of order
            for _ in range(2 if rng.random() < moods.webhook_twice else 1):
                assert self.spawn is not None
                self.spawn(self._knock(instance, body, own_s + rng.uniform(0, 0.5)))

    def _knock(self, instance: Instance, body: bytes, after_s: float) -> Steps[None]:
        assert self.deliver is not None
        yield after_s
        while not (yield from self.deliver(instance, body)):
            yield self.loop.rng.uniform(1, 5)
        self.witness.acknowledged_webhooks.append(body)


def _graph_error(code: int) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": "refused"}})


def _status(instance: Instance, post: Post, phone: str, status: str, at_s: float, label: str | None) -> bytes:
    if not instance.labelled:
        word = {"sent": "SERVER_ACK", "delivered": "DELIVERY_ACK", "read": "READ", "failed": "ERROR"}[status]
        data = {
            "keyId": post.provider_message_id,
            "remoteJid": f"{phone}@s.whatsapp.net",
            "fromMe": True,
            "status": word,
        }
        return orjson.dumps({"event": "messages.update", "instance": instance.config.gateway_instance, "data": data})
    said: dict[str, Any] = {
        "id": post.provider_message_id, "status": status, "timestamp": str(int(at_s)), "recipient_id": phone,
        "biz_opaque_callback_data": label,
    }  # fmt: skip
    if status == "failed":
        said["errors"] = [{"code": 131026, "title": "undeliverable"}]
    return _meta(instance, {"statuses": [said]})


def _echo(instance: Instance, post: Post, phone: str, text: str, at_s: float) -> bytes:
    data = {
        "key": {"id": post.provider_message_id, "remoteJid": f"{phone}@s.whatsapp.net", "fromMe": True},
        "message": {"conversation": text}, "messageType": "conversation", "messageTimestamp": int(at_s),
    }  # fmt: skip
    return orjson.dumps({"event": "send.message", "instance": instance.config.gateway_instance, "data": data})


def poor_quality(instance: Instance, at_s: float) -> bytes:
    """Meta is not content with a number."""
    value = {"event": "FLAGGED", "display_phone_number": instance.config.phone_number, "current_limit": "TIER_250"}
    changes = [{"field": "phone_number_quality_update", "value": value}]
    return orjson.dumps({"entry": [{"id": "1", "time": int(at_s), "changes": changes}]})


def stop_word(instance: Instance, phone: str, number: int, at_s: float) -> bytes:
    """A person writes that they want no more."""
    if instance.labelled:
        message = {
            "from": phone,
            "id": f"in.{number}",
            "timestamp": str(int(at_s)),
            "type": "text",
            "text": {"body": "Parar"},
        }
        return _meta(instance, {"messages": [message]})
    data = {
        "key": {"id": f"IN{number}", "remoteJid": f"{phone}@s.whatsapp.net", "fromMe": False},
        "message": {"conversation": "Parar"}, "messageType": "conversation", "messageTimestamp": int(at_s),
    }  # fmt: skip
    return orjson.dumps({"event": "messages.upsert", "instance": instance.config.gateway_instance, "data": data})


def _meta(instance: Instance, value: dict[str, Any]) -> bytes:
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": instance.config.phone_number_id}, **value}
    return orjson.dumps({"entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})
