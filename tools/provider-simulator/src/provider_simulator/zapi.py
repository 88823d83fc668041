"""Z-API: the account and instance tokens, the methods of an instance, sending."""

from datetime import UTC, datetime
from typing import Any

from provider_simulator import zapi_bodies as bodies
from provider_simulator.door import Request
from provider_simulator.faults import Accept, Break, Garble, Reject, Silence, Throttle, is_accepted
from provider_simulator.meta import GARBLED
from provider_simulator.numbers import Number
from provider_simulator.people import Message, canonical_phone, digits_of
from provider_simulator.world import Sending, World, now_ms
from provider_simulator.zapi_instances import VERBS, ZapiInstances
from provider_simulator.zapi_queue import ZapiQueues

Answer = tuple[int, Any] | None


class Zapi:
    """api.z-api.io."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queues = ZapiQueues(world)
        self._instances = ZapiInstances(world, self.queues)

    def handle(self, request: Request, parts: list[str]) -> None:
        """/instances/{id}/token/{token}/<method>…"""
        if parts[1:3] == ["integrator", "on-demand"]:
            request.answer(*self._instances.on_demand(request, parts[3:]))
            return
        if len(parts) < 5 or parts[2] != "token":
            request.answer(404, {"error": "NOT_FOUND", "message": "Unable to find matching target resource method"})
            return
        number = self._world.numbers.get(parts[1])
        answer = self._refusal(request, number, parts[3])
        if answer is None:
            assert number is not None
            answer = self._serve(request, number, parts[4], parts[5:])
        if answer is not None:
            request.answer(answer[0], answer[1])

    def _refusal(self, request: Request, number: Number | None, token: str) -> Answer:
        if number is None or number.kind != "zapi" or number.token != token:
            return 400, {"error": "Instance not found"}
        if self._world.settings.zapi_check_client_token:
            given = request.header(b"client-token")
            if not given:
                return 400, {"error": "your client-token is not configured"}
            if given != number.client_token:
                return 403, {"error": f"Client-Token {given} not allowed"}
        if request.method in ("POST", "PUT") and "json" not in request.header(b"content-type"):
            return 415, {"error": "Unsupported Media Type"}
        return None

    def _serve(self, request: Request, number: Number, method: str, rest: list[str]) -> Answer:
        if method in bodies.REQUIRED:
            return self._send(request, number, method) if request.method == "POST" else _wrong_verb()
        if method == "queue":
            return self._queue(request, number, rest)
        if method.startswith("update-webhook-"):
            if request.method != "PUT":
                return _wrong_verb()
            return self._instances.set_hook(request, number, method.removeprefix("update-webhook-"))
        verb = VERBS.get(method)
        if verb is None:
            return 404, {"error": "NOT_FOUND", "message": "Unable to find matching target resource method"}
        if request.method != verb:
            return _wrong_verb()
        action = getattr(self._instances, method.replace("-", "_"))
        try:
            result: Answer = action(request, number, rest)
        except (ValueError, AttributeError, KeyError, TypeError):
            return 400, {"error": "Invalid body"}
        return result

    def _send(self, request: Request, number: Number, method: str) -> Answer:
        """Enqueue: 200 with the future message id."""
        try:
            body = request.json()
        except ValueError:
            body = None
        sending = Sending(request, number, kind=method)
        error = bodies.check_send(method, body)
        if error is None:
            sending.text = bodies.text_of(body)
            self._world.draw(sending, digits_of(body["phone"].partition("@")[0]) or body["phone"])
            error = self._not_now(number, body)
        if error is not None:
            sending.fate = Reject(400)
            self._world.open(sending, None, None, 400)
            return 400, {"error": error}
        enqueued = is_accepted(sending.fate) or isinstance(sending.fate, Reject | Throttle)
        message: Message | None = None
        if enqueued:
            message = Message(self._world.mint.long_id(), "zapi", number.id, sending.person,
                              canonical_phone(sending.to), method, sending.text, now_ms(),
                              row=self._world.mint.long_id())  # fmt: skip
            created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            journey = self.queues.enqueue(sending, message, body, created_at)
            if isinstance(sending.fate, Reject | Throttle):
                sending.fate = Accept()
            self._world.open(sending, message.id, journey)
        else:
            self._world.open(sending, None, None)
        self._world.soon(sending.delay_s, self._answer, sending, message)
        return None

    def _not_now(self, number: Number, body: dict[str, Any]) -> str | None:
        settings = self._world.settings
        if number.state == "unpaid":
            return bodies.UNPAID
        if number.state != "open":
            if number.disable_enqueue:
                return "You are not connected."
            if len(number.queue) >= settings.zapi_queue_limit:
                return "Queue limit reached"
        media = bodies.media_of(body)
        if media is not None and not bodies.is_link_allowed(media, settings.plain_hosts):
            return "The url informed is not a valid url in the media format, apparently it can be an html"
        return None

    def _answer(self, sending: Sending, message: Message | None) -> None:
        request = sending.request
        match sending.fate:
            case Accept():
                assert message is not None
                request.answer(200, {"zaapId": message.row, "messageId": message.id, "id": message.id})
            case Garble():
                request.answer(200, GARBLED, content_type="text/html")
            case Break(readable=readable):
                request.answer(503 if readable else 500, {"error": "Internal Server Error"})
            case Silence(how="reset"):
                request.abort()
            case Silence() | Reject() | Throttle():
                return

    def _queue(self, request: Request, number: Number, rest: list[str]) -> Answer:
        if request.method == "DELETE":
            gone = [q for q in number.queue if not rest or q.entry["ZaapId"] == rest[0]]
            for queued in gone:
                number.queue.remove(queued)
            ids = [q.message.id for q in gone]
            self._world.witness.note("queue_purged", provider="zapi", number=number.id, message_ids=ids)
            return 200, {"value": True}
        entries = [queued.entry for queued in number.queue]
        if request.method == "GET":
            return 200, entries
        body = request.json() if request.body else {}
        size, start = min(int(body.get("pageSize") or 30), 30), int(body.get("pagingState") or 0)
        more = start + size < len(entries)
        return 200, {"messages": entries[start : start + size], "hasMore": more,
                     "pagingState": str(start + size) if more else None}  # fmt: skip


def _wrong_verb() -> tuple[int, Any]:
    return 405, {"error": "Method Not Allowed"}
