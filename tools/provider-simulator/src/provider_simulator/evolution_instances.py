"""Evolution's instances: created, paired by QR code, connected, banned, deleted; and the events they emit."""

from typing import Any

from provider_simulator import evolution_webhooks as webhooks
from provider_simulator.callbacks import Webhook, header_lines
from provider_simulator.numbers import Hook, Number
from provider_simulator.qr_image import data_uri
from provider_simulator.world import World

QR_LIMIT = 30


class Instances:
    """The life of instances."""

    def __init__(self, world: World) -> None:
        self._world = world

    def emit(self, number: Number, event: str, data: Any, items: tuple[tuple[str, str], ...] = ()) -> None:
        """Post an event to the instance's webhook, if it is subscribed."""
        if not webhooks.wants(number, event):
            return
        settings = self._world.settings
        at = webhooks.now()
        headers = webhooks.headers_of(number, event, at, settings.evolution_version)
        self._world.callbacks.post(Webhook(
            number, event, items, webhooks.url_of(number, event), header_lines(headers),
            webhooks.envelope(number, event, data, at, settings.evolution_server_url),
        ))  # fmt: skip

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an instance; the answer of /instance/create."""
        cloud = body["integration"] == "WHATSAPP-BUSINESS"
        number = Number(
            id=body["instanceName"], kind="evolution_cloud" if cloud else "evolution_web", phone="",
            token=str(body.get("token") or self._world.mint.uuid().upper()), row_id=self._world.mint.uuid(),
            state="open" if cloud else "close",
        )  # fmt: skip
        if cloud:
            number.graph_number, number.waba = str(body.get("number", "")), str(body.get("businessId", ""))
        if isinstance(body.get("webhook"), dict):
            number.hook = hook_from(body["webhook"])
        number.settings = {
            name: body[name] for name in ("rejectCall", "msgCall", "groupsIgnore", "alwaysOnline", "readMessages",
                                          "readStatus", "syncFullHistory") if name in body
        }  # fmt: skip
        self._world.adopt(number)
        self._world.witness.note("instance_created", number=number.id, provider=number.kind)
        answer: dict[str, Any] = {
            "instance": {
                "instanceName": number.id, "instanceId": number.row_id, "integration": body["integration"],
                "webhookWaBusiness": None, "accessTokenWaBusiness": "", "status": number.state,
            },
            "hash": number.token, "webhook": hook_json(number.hook), "settings": number.settings,
        }  # fmt: skip
        if not cloud and body.get("qrcode"):
            answer["qrcode"] = self.connect(number, str(body.get("number") or ""))
            answer["instance"]["status"] = number.state
        return answer

    def connect(self, number: Number, phone: str) -> dict[str, Any]:
        """Ask for a QR code; the answer of /instance/connect."""
        if number.state == "open":
            return {"instance": {"instanceName": number.id, "state": "open"}}
        if number.state != "connecting":
            number.generation += 1
            number.qr_count = 0
            self._enter(number, "connecting", 200)
            self._rotate(number, number.generation)
            if number.behaviour.qr_scan_after_s >= 0:
                self._world.later(number.behaviour.qr_scan_after_s, self._scanned, number, number.generation)
        return self._qr(number, phone)

    def _qr(self, number: Number, phone: str = "") -> dict[str, Any]:
        code = f"2@{number.row_id}-{number.generation}-{number.qr_count}"
        pairing = f"WZ{number.qr_count:02d}{number.row_id[:4].upper()}" if phone else None
        return {"pairingCode": pairing, "code": code, "base64": data_uri(code), "count": number.qr_count}

    def _rotate(self, number: Number, generation: int) -> None:
        """A new code each time, until the limit."""
        if generation != number.generation or number.state != "connecting":
            return
        if number.qr_count >= QR_LIMIT:
            self.emit(number, "qrcode.updated", {"message": "QR code limit reached, please login again",
                                                 "statusCode": 500})  # fmt: skip
            self._enter(number, "refused", 428)
            number.state = "close"
            return
        number.qr_count += 1
        shown = self._qr(number)
        self.emit(number, "qrcode.updated", {"qrcode": {
            "instance": number.id, "pairingCode": shown["pairingCode"], "code": shown["code"],
            "base64": shown["base64"],
        }})  # fmt: skip
        self._world.later(number.behaviour.qr_rotate_after_s, self._rotate, number, generation)

    def _scanned(self, number: Number, generation: int) -> None:
        if generation == number.generation and number.state == "connecting":
            self.open(number)

    def open(self, number: Number) -> None:
        """The QR code was scanned, or the socket came back."""
        number.generation += 1
        number.phone = number.phone or f"5511{int(number.row_id[:6], 16) % 100_000_000 + 900_000_000}"
        self._enter(number, "open", 200)

    def close(self, number: Number, reason: int) -> None:
        """Logged out (401) or banned (403): a QR code is needed again."""
        number.generation += 1
        self._enter(number, "close", reason)
        self.emit(number, "status.instance", {
            "instance": number.id, "status": "closed", "disconnectionReasonCode": reason,
            "disconnectionAt": webhooks.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "disconnectionObject": f'{{"error":{{"output":{{"statusCode":{reason}}}}}}}',
        })  # fmt: skip

    def restart(self, number: Number) -> None:
        """The socket closes silently and comes back."""
        number.generation += 1
        self._enter(number, "connecting", 200)
        self._world.later(1.0, self._scanned, number, number.generation)

    def delete(self, number: Number) -> None:
        """Forget the instance."""
        self.emit(number, "instance.delete", {"instanceName": number.id, "instanceId": number.row_id})
        self.emit(number, "remove.instance", None)
        number.generation += 1
        self._world.numbers.pop(number.id, None)
        self._world.witness.note("instance_deleted", number=number.id, provider=number.kind)

    def logout(self, number: Number) -> None:
        """Log out of WhatsApp."""
        self.emit(number, "logout.instance", None)
        self.close(number, 401)

    def _enter(self, number: Number, state: str, reason: int) -> None:
        number.state = state if state != "refused" else "close"
        data: dict[str, Any] = {"instance": number.id, "state": state, "statusReason": reason}
        if state == "open":
            data |= {"wuid": f"{number.phone}@s.whatsapp.net", "profileName": number.name,
                     "profilePictureUrl": None}  # fmt: skip
        self._world.witness.note("connection", provider=number.kind, number=number.id, state=state, reason=reason)
        self.emit(number, "connection.update", data)


def hook_from(data: dict[str, Any]) -> Hook:
    """A webhook as /instance/create and /webhook/set take it."""
    return Hook(
        url=str(data.get("url", "")), headers={str(k): str(v) for k, v in (data.get("headers") or {}).items()},
        events=tuple(data.get("events") or ()), enabled=bool(data.get("enabled", True)),
        by_events=bool(data.get("byEvents")),
    )  # fmt: skip


def hook_json(hook: Hook) -> dict[str, Any]:
    """A webhook as the server shows it."""
    return {
        "enabled": hook.enabled, "url": hook.url, "headers": hook.headers or None, "events": list(hook.events),
        "webhookByEvents": hook.by_events, "webhookBase64": False,
    }  # fmt: skip
