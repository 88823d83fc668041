"""Evolution's calls under /chat: look-ups of numbers and of messages."""

from datetime import datetime
from typing import Any

from provider_simulator import evolution_webhooks as webhooks
from provider_simulator.door import Request
from provider_simulator.evolution_bodies import NOT_AVAILABLE, EvolutionError, jid_of
from provider_simulator.journeys import Step
from provider_simulator.numbers import Number
from provider_simulator.people import Message, digits_of, person_key, private_id
from provider_simulator.world import World

Answer = EvolutionError | tuple[int, Any] | None


class EvolutionChats:
    """/chat/<verb>/{instance}"""

    def __init__(self, world: World) -> None:
        self._world = world

    def serve(self, request: Request, number: Number, verb: str) -> Answer:
        """Calls under /chat."""
        cloud = number.kind == "evolution_cloud"
        try:
            body = request.json() if request.body else {}
        except ValueError:
            return EvolutionError(400, ["Unexpected token in JSON"])
        if verb == "findMessages" and request.method == "POST":
            return 200, self._found(number, body)
        if verb == "findStatusMessage" and request.method == "POST":
            message = self._world.mailbox.find(str(body.get("where", {}).get("id")))
            return 200, [webhooks.update_data(number, message, Step(0, s)) for s, _, _ in message.statuses
                         ] if message is not None else []  # fmt: skip
        if cloud:
            return NOT_AVAILABLE
        if verb == "whatsappNumbers" and request.method == "POST":
            if not isinstance(body.get("numbers"), list):
                return EvolutionError(400, [['instance requires property "numbers"']])
            return 200, [self._looked_up(number, str(given)) for given in body["numbers"]]
        if verb == "markMessageAsRead" and request.method == "POST":
            return 201, {"message": "Read messages", "read": "success"}
        if verb == "sendPresence" and request.method == "POST":
            return 201, {"presence": body.get("presence")}
        if verb == "fetchProfilePictureUrl":
            return 200, {"wuid": jid_of(str(body.get("number", ""))), "profilePictureUrl": None}
        return EvolutionError(404, [f"Cannot {request.method} {request.path}"])

    def _looked_up(self, number: Number, given: str) -> dict[str, Any]:
        digits = digits_of(given)
        person = person_key(digits)
        if self._world.is_missing(number, person):
            return {"jid": f"{digits}@s.whatsapp.net", "exists": False, "number": given}
        return {"jid": jid_of(given), "exists": True, "number": given, "lid": f"{private_id(person)}@lid"}

    def _found(self, number: Number, body: dict[str, Any]) -> dict[str, Any]:
        """findMessages with its known weaknesses: `remoteJid` and `fromMe: false` filter nothing, and the
        time counts only with both bounds. Newest first."""
        where = body.get("where") or {}
        key = where.get("key") or {}
        span = where.get("messageTimestamp") or {}
        found = self._world.mailbox.of_number(number.id)
        if key.get("id"):
            found = [m for m in found if m.id == key["id"]]
        if key.get("fromMe"):
            found = [m for m in found if m.outbound]
        if span.get("gte") and span.get("lte"):
            low, high = (int(datetime.fromisoformat(str(span[b])).timestamp()) for b in ("gte", "lte"))
            found = [m for m in found if low <= m.at_ms // 1000 <= high]
        size, page = int(body.get("offset") or 50), int(body.get("page") or 1)
        shown = found[(page - 1) * size : page * size]
        pages = -(-len(found) // size)
        return {"messages": {"total": len(found), "pages": pages, "currentPage": page,
                             "records": [_record(number, m) for m in shown]}}  # fmt: skip


def _record(number: Number, message: Message) -> dict[str, Any]:
    statuses = webhooks.CLOUD_STATUS if number.kind == "evolution_cloud" else webhooks.WEB_STATUS
    return {
        "id": message.row, "key": {"id": message.id, "fromMe": message.outbound, "remoteJid": message.to},
        "pushName": None, "messageType": "conversation", "message": {"conversation": message.text},
        "messageTimestamp": message.at_ms // 1000, "instanceId": number.row_id, "source": "web",
        "contextInfo": None, "MessageUpdate": [{"status": statuses[s]} for s, _, _ in message.statuses],
    }  # fmt: skip
