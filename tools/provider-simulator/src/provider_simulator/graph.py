"""Meta's Graph API beside sending: numbers, templates, media, subscriptions, message history."""

import hashlib
import time
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qs, urlencode

from provider_simulator.door import Request
from provider_simulator.meta import MetaMessages
from provider_simulator.meta_errors import GraphError
from provider_simulator.numbers import Number, template_from
from provider_simulator.people import Message
from provider_simulator.settings import SettingRefused
from provider_simulator.targets import Target
from provider_simulator.world import World, now_ms

MEDIA_LIFE_MS = 30 * 24 * 3600 * 1000
HEALTH = {"can_send_message": "AVAILABLE", "entities": []}


class Graph:
    """Everything under /v{n}.0/ that is not a send."""

    def __init__(self, world: World, messages: MetaMessages, base_url: str = "") -> None:
        self._world = world
        self._messages = messages
        self.base_url = base_url

    def handle(self, request: Request, parts: list[str]) -> None:
        """`parts` is the path below the version."""
        node, edge = parts[0], parts[1] if len(parts) > 1 else ""
        if request.method == "POST" and edge in ("messages", "marketing_messages"):
            self._messages.send(request, node)
            return
        number = self._world.numbers.get(node)
        owner = number or self._owner(request, node)
        error = self._messages.authenticate(request, owner)
        if error is not None or owner is None:
            self._messages.refuse(request, error or GraphError(100, subcode=33))
            return
        action = getattr(self, f"_{request.method.lower()}_{edge or 'node'}", None)
        if action is None:
            self._messages.refuse(request, GraphError(100, f"Unsupported {request.method.lower()} request."))
            return
        action(request, node, owner)

    def _owner(self, request: Request, node: str) -> Number | None:
        """The number whose token may touch this WABA, media or history node."""
        token = request.header(b"authorization").partition(" ")[2]
        media = self._world.media.get(node)
        message = self._world.mailbox.find(node)
        for number in self._world.numbers.values():
            if number.kind != "meta" or number.token != token:
                continue
            ours = number.waba == node or (message is not None and message.number == number.id)
            if ours or (media is not None and media["waba"] == number.waba):
                return number
        return None

    def _get_node(self, request: Request, node: str, owner: Number) -> None:
        if node == owner.id:
            fields = parse_qs(request.query).get("fields", [""])[0]
            request.answer(200, number_fields(owner, [f for f in fields.split(",") if f]))
        elif node in self._world.media:
            media = self._world.media[node]
            request.answer(200, {
                "messaging_product": "whatsapp", "id": node, "mime_type": media["mime_type"],
                "sha256": media["sha256"], "file_size": media["file_size"],
                "url": f"{self.base_url}/v23.0/{node}/content",
            })  # fmt: skip
        else:
            request.answer(200, {"id": node, "name": owner.name})

    def _get_content(self, request: Request, node: str, _owner: Number) -> None:
        media = self._world.media[node]
        request.answer(200, media["data"], content_type=media["mime_type"])

    def _delete_node(self, request: Request, node: str, _owner: Number) -> None:
        if self._world.media.pop(node, None) is None:
            self._messages.refuse(request, GraphError(100, subcode=33))
        else:
            request.answer(200, {"success": True})

    def _post_media(self, request: Request, _node: str, owner: Number) -> None:
        upload = read_upload(request)
        if upload is None:
            self._messages.refuse(request, GraphError(100, "The parameter file is required."))
            return
        mime_type, data = upload
        media_id = self._world.mint.digits()
        self._world.media[media_id] = {
            "waba": owner.waba, "mime_type": mime_type, "data": data, "file_size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(), "expires_ms": now_ms() + MEDIA_LIFE_MS,
        }  # fmt: skip
        request.answer(200, {"id": media_id})

    def _get_phone_numbers(self, request: Request, node: str, _owner: Number) -> None:
        numbers = [n for n in self._world.numbers.values() if n.kind == "meta" and n.waba == node]
        request.answer(200, {"data": [number_fields(number, []) for number in numbers]})

    def _get_message_templates(self, request: Request, _node: str, owner: Number) -> None:
        query = parse_qs(request.query)
        name = query.get("name", [""])[0]
        limit = int(query.get("limit", ["100"])[0])
        start = int(query.get("after", ["0"])[0] or 0)
        found = [t for t in self._world.templates.get(owner.waba, {}).values() if not name or t.name == name]
        answer: dict[str, Any] = {"data": [t.as_json() for t in found[start : start + limit]]}
        if start + limit < len(found):
            after = str(start + limit)
            link = f"{self.base_url}{request.path}?{urlencode({'limit': limit, 'after': after})}"
            answer["paging"] = {"cursors": {"after": after}, "next": link}
        request.answer(200, answer)

    def _post_message_templates(self, request: Request, _node: str, owner: Number) -> None:
        try:
            data = {k: v for k, v in request.json().items() if k in ("name", "language", "category", "components")}
            template = template_from({**data, "status": "PENDING"}, self._world.mint.digits())
        except (ValueError, AttributeError, SettingRefused):
            self._messages.refuse(request, GraphError(100, "Invalid template."))
            return
        self._world.templates.setdefault(owner.waba, {})[(template.name, template.language)] = template
        self._world.later(5.0, self.set_template_status, owner, template.name, template.language, "APPROVED")
        request.answer(200, {"id": template.id, "status": "PENDING", "category": template.category})

    def set_template_status(self, owner: Number, name: str, language: str, status: str) -> bool:
        """Review, pause or disable a template, and tell the receiver."""
        template = self._world.templates.get(owner.waba, {}).get((name, language))
        if template is None:
            return False
        template.status = status
        value = {
            "event": status, "message_template_id": int(template.id), "message_template_name": name,
            "message_template_language": language, "reason": "NONE",
        }  # fmt: skip
        self._world.callbacks.post_meta(
            owner, value, "template", ((template.id, status),), "message_template_status_update"
        )
        return True

    def _get_subscribed_apps(self, request: Request, _node: str, _owner: Number) -> None:
        request.answer(200, {"data": [{"whatsapp_business_api_data": {"id": "1", "name": "simulated"}}]})

    def _post_subscribed_apps(self, request: Request, _node: str, owner: Number) -> None:
        try:
            body = request.json() if request.body else {}
        except ValueError:
            body = {}
        url = body.get("override_callback_uri")
        if not url:
            request.answer(200, {"success": True})
            return
        numbers = [n for n in self._world.numbers.values() if n.kind == "meta" and n.waba == owner.waba]

        def verified(ok: bool, why: str) -> None:
            if not ok:
                self._messages.refuse(request, GraphError(2200, why))
                return
            for number in numbers:
                number.hook.url = url
            request.answer(200, {"success": True})

        verify(self._world, url, str(body.get("verify_token", "")), verified)

    def _post_register(self, request: Request, _node: str, owner: Number) -> None:
        owner.state = "open"
        request.answer(200, {"success": True})

    def _post_deregister(self, request: Request, _node: str, owner: Number) -> None:
        owner.state = "unregistered"
        request.answer(200, {"success": True})

    def _get_message_history(self, request: Request, node: str, _owner: Number) -> None:
        wanted = parse_qs(request.query).get("message_id", [""])[0]
        message = self._world.mailbox.find(wanted)
        found = [message] if message is not None and message.number == node else []
        if not wanted:
            found = [m for m in self._world.mailbox.of_number(node) if m.outbound][:25]
        request.answer(200, {"data": [{"id": m.id, "message_id": m.id} for m in found]})

    def _get_events(self, request: Request, node: str, _owner: Number) -> None:
        message = self._world.mailbox.find(node)
        request.answer(200, {"data": history_events(message) if message is not None else []})


def history_events(message: Message) -> list[dict[str, Any]]:
    """The delivery history of a message, newest first."""
    steps = [("accepted", message.at_ms, None), *message.statuses]
    return [
        {"delivery_status": status.upper(), "timestamp": at_ms // 1000, "webhook_update_state": "SENT"}
        for status, at_ms, _ in reversed(steps)
    ]


def number_fields(number: Number, fields: list[str]) -> dict[str, Any]:
    """A phone number's node, with the fields asked for."""
    every: dict[str, Any] = {
        "display_phone_number": number.phone, "verified_name": number.name, "quality_rating": number.quality,
        "status": "BANNED" if number.state == "banned" else "CONNECTED", "name_status": "APPROVED",
        "code_verification_status": "VERIFIED", "platform_type": "CLOUD_API", "health_status": HEALTH,
        "throughput": {"level": "HIGH" if (number.limits.mps or 1000) > 80 else "STANDARD"},
        "whatsapp_business_manager_messaging_limit": number.tier,
    }  # fmt: skip
    chosen = fields or ["verified_name", "display_phone_number", "quality_rating", "code_verification_status"]
    return {**{name: every[name] for name in chosen if name in every}, "id": number.id}


def read_upload(request: Request) -> tuple[str, bytes] | None:
    """The `file` part of a multipart body: its type and bytes."""
    kind = request.header(b"content-type")
    if not kind.startswith("multipart/form-data"):
        return None
    head = f"content-type: {kind}\r\n\r\n".encode("latin-1")
    for part in BytesParser(policy=HTTP).parsebytes(head + request.body).walk():
        if part.get_param("name", header="content-disposition") == "file":
            data = part.get_payload(decode=True)
            return part.get_content_type(), data if isinstance(data, bytes) else b""
    return None


def verify(world: World, url: str, token: str, done: Any) -> None:
    """Meta's handshake: GET with a challenge, which must come back as it is. `done(ok, why)`."""
    challenge = str(time.monotonic_ns() % 10_000_000_000)
    query = urlencode({"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": challenge})

    def answered(status: int, body: bytes, error: str | None) -> None:
        ok = status == 200 and body.decode("utf-8", "replace").strip() == challenge
        world.witness.note("handshake", url=url, http_status=status, ok=ok, error=error)
        done(ok, "" if ok else error or f"status {status}, challenge not echoed")

    try:
        world.postman.get(Target(f"{url}{'&' if '?' in url else '?'}{query}"), answered)
    except ValueError as refused:
        done(False, str(refused))
