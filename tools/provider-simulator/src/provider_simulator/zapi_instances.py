"""Z-API's methods of one instance beside sending: connection, webhooks, look-ups. Named as the methods are."""

from typing import Any

from provider_simulator import zapi_bodies as bodies
from provider_simulator.door import Request
from provider_simulator.numbers import Number
from provider_simulator.people import canonical_phone, digits_of, person_key, private_id
from provider_simulator.qr_image import data_uri
from provider_simulator.world import World, now_ms
from provider_simulator.zapi_queue import ZapiQueues

HOOKS = ("received", "received-delivery", "delivery", "message-status", "disconnected", "connected",
         "chat-presence")  # fmt: skip
VERBS = {
    "status": "GET", "qr-code": "GET", "phone-code": "GET", "restart": "GET", "restore-session": "GET",
    "disconnect": "GET", "me": "GET", "device": "GET", "phone-exists": "GET", "phone-exists-batch": "POST",
    "read-message": "POST", "update-queue-settings": "PUT", "update-every-webhooks": "PUT",
    "update-notify-sent-by-me": "PUT", "update-filters": "PUT", "messages": "DELETE",
    "modify-chat": "POST",
}  # fmt: skip
Answer = tuple[int, Any] | None


class ZapiInstances:
    """What can be asked of an instance."""

    def __init__(self, world: World, queues: ZapiQueues) -> None:
        self._world = world
        self._queues = queues

    def on_demand(self, request: Request, rest: list[str]) -> tuple[int, Any]:
        """POST integrator/on-demand: a new instance, for partners."""
        if request.header(b"authorization") != f"Bearer {self._world.settings.zapi_partner_token}":
            return 401, {"error": "Unauthorized"}
        if request.method != "POST":
            return 405, {"error": "Method Not Allowed"}
        if rest:
            return 201, {"value": True}
        body = request.json()
        number = Number(
            id=self._world.mint.long_id(), kind="zapi", token=self._world.mint.long_id()[:24], state="close",
            name=str(body.get("name", "")), client_token=self._world.settings.zapi_client_token,
            row_id=self._world.mint.uuid(), disable_enqueue=bool(body.get("disableEnqueueWhenDisconnected")),
        )  # fmt: skip
        for kind in HOOKS:
            name = "".join(word.title() for word in kind.split("-"))
            url = body.get(name[0].lower() + name[1:] + "CallbackUrl")
            if url:
                number.hook.by_kind[kind] = str(url)
        self._world.adopt(number)
        return 200, {"id": number.id, "token": number.token, "due": now_ms() + 2 * 24 * 3600 * 1000}

    def set_hook(self, request: Request, number: Number, kind: str) -> Answer:
        """PUT update-webhook-<kind>."""
        url = str(request.json().get("value", ""))
        if kind not in HOOKS or not bodies.is_link_allowed(url, self._world.settings.plain_hosts):
            return 400, {"error": "Invalid webhook"}
        number.hook.by_kind[kind] = url
        return 200, {"value": True}

    def update_every_webhooks(self, request: Request, number: Number, _rest: list[str]) -> Answer:
        """One URL for all kinds."""
        body = request.json()
        if not bodies.is_link_allowed(str(body["value"]), self._world.settings.plain_hosts):
            return 400, {"error": "Invalid webhook"}
        number.hook.url = str(body["value"])
        number.hook.by_kind.clear()
        if "notifySentByMe" in body:
            number.hook.notify_sent_by_me = bool(body["notifySentByMe"])
        self._world.witness.note("webhook_set", number=number.id, url=number.hook.url)
        return 200, {"value": True}

    def update_notify_sent_by_me(self, request: Request, number: Number, _rest: list[str]) -> Answer:
        """Echo our own messages."""
        number.hook.notify_sent_by_me = bool(request.json()["notifySentByMe"])
        return 200, {"value": True}

    def update_filters(self, _request: Request, _number: Number, _rest: list[str]) -> Answer:
        """Accepted, without effect."""
        return 200, {"value": True}

    def update_queue_settings(self, request: Request, number: Number, _rest: list[str]) -> Answer:
        """Whether to enqueue while disconnected."""
        number.disable_enqueue = bool(request.json()["disableEnqueueWhenDisconnected"])
        return 200, {"success": True}

    def status(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """The connection; `error` is text even when fine."""
        connected = number.state in ("open", "unpaid")
        text = "You are already connected." if connected else "You are not connected."
        return 200, {"connected": connected, "error": text, "smartphoneConnected": connected}

    def qr_code(self, _request: Request, number: Number, rest: list[str]) -> Answer:
        """A QR code; asking for one starts the pairing."""
        if number.state == "open":
            return 200, {"connected": True}
        if number.state == "close":
            number.state = "connecting"
            number.generation += 1
            if number.behaviour.qr_scan_after_s >= 0:
                self._world.later(number.behaviour.qr_scan_after_s, self._scanned, number, number.generation)
        number.qr_count += 1
        code = f"2@{number.row_id}-{number.qr_count}"
        return 200, {"value": data_uri(code) if rest[:1] == ["image"] else code}

    def _scanned(self, number: Number, generation: int) -> None:
        if number.generation == generation and number.state == "connecting":
            self._queues.set_connected(number, True)

    def phone_code(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """A pairing code."""
        return 200, {"value": number.row_id[:8].upper() + "E5"}

    def restart(self, _request: Request, _number: Number, _rest: list[str]) -> Answer:
        """Always fine."""
        return 200, {"value": True}

    def restore_session(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """Comes back if it was pairing."""
        if number.state == "connecting":
            self._queues.set_connected(number, True)
        return 200, {"value": True}

    def disconnect(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """Log out; no webhook tells."""
        self._queues.set_connected(number, False, tell=False)  # after it no webhooks at all
        return 200, {"value": True}

    def me(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """The instance."""
        return 200, {"id": number.id, "token": number.token, "name": number.name, "due": 0,
                     "connected": number.state == "open", "paymentStatus": "PAID"}  # fmt: skip

    def device(self, _request: Request, number: Number, _rest: list[str]) -> Answer:
        """The phone."""
        return 200, {"phone": number.phone, "name": number.name, "isBusiness": True}

    def phone_exists(self, _request: Request, number: Number, rest: list[str]) -> Answer:
        """One look-up."""
        phone = digits_of(rest[0]) if rest else ""
        exists = not self._world.is_missing(number, person_key(phone))
        lid = f"{private_id(person_key(phone))}@lid" if exists else None
        return 200, [{"exists": exists, "phone": canonical_phone(phone), "lid": lid}]

    def phone_exists_batch(self, request: Request, number: Number, _rest: list[str]) -> Answer:
        """Many look-ups."""
        answers = []
        for given in request.json()["phones"]:
            phone = digits_of(str(given))
            exists = not self._world.is_missing(number, person_key(phone))
            answers.append({"exists": exists, "inputPhone": given, "outputPhone": canonical_phone(phone),
                            "lid": f"{private_id(person_key(phone))}@lid" if exists else None})  # fmt: skip
        return 200, answers

    def read_message(self, request: Request, number: Number, _rest: list[str]) -> Answer:
        """Mark as read."""
        self._world.witness.note("marked_read", number=number.id, message_id=request.json()["messageId"])
        return 204, None

    def messages(self, _request: Request, _number: Number, _rest: list[str]) -> Answer:
        """Delete a message; accepted, without effect."""
        return 204, None

    def modify_chat(self, _request: Request, _number: Number, _rest: list[str]) -> Answer:
        """Accepted, without effect."""
        return 200, {"value": True}
