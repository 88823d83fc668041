"""Evolution API v2: the key, the routes, and the instance calls. Sending is in evolution_messages."""

from typing import Any
from urllib.parse import parse_qs

from provider_simulator.door import Request
from provider_simulator.evolution_bodies import UNAUTHORIZED, EvolutionError, lacks, unknown_instance
from provider_simulator.evolution_chats import EvolutionChats
from provider_simulator.evolution_instances import Instances, hook_from, hook_json
from provider_simulator.evolution_messages import EvolutionMessages
from provider_simulator.numbers import Number
from provider_simulator.world import World

FAMILIES = frozenset({"instance", "message", "chat", "webhook", "settings"})
VERBS = {
    ("instance", "connect"): "GET", ("instance", "connectionState"): "GET", ("instance", "restart"): "POST",
    ("instance", "logout"): "DELETE", ("instance", "delete"): "DELETE", ("instance", "setPresence"): "POST",
    ("instance", "create"): "POST", ("instance", "fetchInstances"): "GET",
    ("webhook", "set"): "POST", ("webhook", "find"): "GET", ("settings", "set"): "POST",
    ("settings", "find"): "GET",
}  # fmt: skip
LICENSE_REQUIRED = {
    "error": "service not activated", "code": "LICENSE_REQUIRED", "register_url": "https://license.simulated",
    "instance_id": "simulated", "docs_url": "https://docs.simulated", "message": "This server is not activated.",
}  # fmt: skip


class Evolution:
    """One Evolution server."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.instances = Instances(world)
        self.messages = EvolutionMessages(world, self.instances)
        self.chats = EvolutionChats(world)

    def handle(self, request: Request, parts: list[str]) -> None:
        """A request to a path of ours."""
        settings = self._world.settings
        if settings.evolution_version.startswith("2.4") and not settings.evolution_licensed:
            request.answer(503, LICENSE_REQUIRED)
            return
        family, verb = parts[0], parts[1] if len(parts) > 1 else ""
        name = "/".join(parts[2:])
        answer = self._answer(request, family, verb, name)
        if isinstance(answer, EvolutionError):
            request.answer(answer.http_status, answer.body())
        elif answer is not None:
            request.answer(answer[0], answer[1])

    def welcome(self, request: Request) -> None:
        """GET /: the version probe."""
        request.answer(200, {
            "status": 200, "message": "Welcome to the Evolution API, it is working!",
            "version": self._world.settings.evolution_version, "clientName": "evolution_simulated",
            "manager": "http://evolution.simulated/manager", "documentation": "https://doc.evolution-api.com",
            "whatsappWebVersion": "2.3000.1025205472",
        })  # fmt: skip

    def _answer(self, request: Request, family: str, verb: str,
                name: str) -> EvolutionError | tuple[int, Any] | None:  # fmt: skip
        if family not in ("message", "chat") and VERBS.get((family, verb)) != request.method:
            return EvolutionError(404, [f"Cannot {request.method} {request.path}"])
        if (family, verb) == ("instance", "create"):
            return self._create(request)
        if (family, verb) == ("instance", "fetchInstances"):
            return self._fetch(request)
        found = self._find(request, name)
        if isinstance(found, EvolutionError):
            return found
        if family == "message" and request.method == "POST":
            return self.messages.send(request, found, verb)
        if family == "chat":
            return self.chats.serve(request, found, verb)
        if family == "message":
            return EvolutionError(404, [f"Cannot {request.method} {request.path}"])
        action = getattr(self, f"_{family}_{verb.lower()}")
        result: EvolutionError | tuple[int, Any] = action(request, found)
        return result

    def _key(self, request: Request) -> tuple[str, bool]:
        key = request.header(b"apikey")
        return key, key == self._world.settings.evolution_api_key

    def _find(self, request: Request, name: str) -> Number | EvolutionError:
        """The instance, if the key may touch it. The guard looks the instance up with the key."""
        key, is_global = self._key(request)
        number = self._world.numbers.get(name)
        if number is None or not number.kind.startswith("evolution"):
            return unknown_instance(name) if is_global else UNAUTHORIZED
        return number if is_global or (key and key == number.token) else UNAUTHORIZED

    def _create(self, request: Request) -> EvolutionError | tuple[int, Any]:
        if not self._key(request)[1]:
            return UNAUTHORIZED
        try:
            body = request.json()
        except ValueError:
            return EvolutionError(400, ["Unexpected token in JSON"])
        if not isinstance(body, dict) or not body.get("instanceName"):
            return lacks("instanceName")
        if body.get("integration") not in ("WHATSAPP-BAILEYS", "WHATSAPP-BUSINESS"):
            return EvolutionError(400, ["Invalid integration"])
        if body["instanceName"] in self._world.numbers:
            return EvolutionError(403, [f'This name "{body["instanceName"]}" is already in use.'])
        webhook = body.get("webhook")
        if webhook is not None and (not isinstance(webhook, dict) or "events" not in webhook):
            return EvolutionError(400, [['instance.webhook requires property "events"']])
        if body["integration"] == "WHATSAPP-BUSINESS":
            for name in ("token", "number"):
                if not body.get(name):
                    return EvolutionError(400, [f"{name} is required"])
        return 201, self.instances.create(body)

    def _fetch(self, request: Request) -> EvolutionError | tuple[int, Any]:
        key, is_global = self._key(request)
        ours = [n for n in self._world.numbers.values() if n.kind.startswith("evolution")]
        seen = [n for n in ours if is_global or (key and n.token == key)]
        if not seen and not is_global:
            return UNAUTHORIZED
        wanted = parse_qs(request.query).get("instanceName", [""])[0]
        return 200, [_listed(n) for n in seen if not wanted or n.id == wanted]

    def _instance_connect(self, request: Request, number: Number) -> tuple[int, Any]:
        if number.state == "banned":
            return 200, {"error": True, "message": "Error: Connection Failure"}
        return 200, self.instances.connect(number, parse_qs(request.query).get("number", [""])[0])

    def _instance_connectionstate(self, _request: Request, number: Number) -> tuple[int, Any]:
        return 200, {"instance": {"instanceName": number.id, "state": _state(number)}}

    def _instance_restart(self, _request: Request, number: Number) -> tuple[int, Any]:
        if number.state in ("close", "banned"):
            return 200, {"error": True, "message": f'The "{number.id}" instance is not connected'}
        if number.kind == "evolution_web":
            self.instances.restart(number)
        return 200, {"instance": {"instanceName": number.id, "state": number.state}}

    def _instance_logout(self, _request: Request, number: Number) -> EvolutionError | tuple[int, Any]:
        if number.state != "open" and not self._world.settings.evolution_version.startswith("2.4"):
            return EvolutionError(400, [f'The "{number.id}" instance is not connected'])
        self.instances.logout(number)
        return 200, _success("Instance logged out")

    def _instance_delete(self, _request: Request, number: Number) -> tuple[int, Any]:
        self.instances.delete(number)
        return 200, _success("Instance deleted")

    def _instance_setpresence(self, request: Request, _number: Number) -> tuple[int, Any]:
        return 201, {"presence": request.json().get("presence")}

    def _webhook_set(self, request: Request, number: Number) -> EvolutionError | tuple[int, Any]:
        try:
            webhook = request.json().get("webhook")
        except (ValueError, AttributeError):
            webhook = None
        if not isinstance(webhook, dict):
            return lacks("webhook")
        if webhook.get("enabled") and not str(webhook.get("url", "")).strip().startswith("http"):
            return EvolutionError(400, ['Invalid "url" property'])
        number.hook = hook_from(webhook)
        self._world.witness.note("webhook_set", number=number.id, url=number.hook.url)
        return 201, hook_json(number.hook)

    def _webhook_find(self, _request: Request, number: Number) -> tuple[int, Any]:
        return 200, hook_json(number.hook) if number.hook.url else None

    def _settings_set(self, request: Request, number: Number) -> EvolutionError | tuple[int, Any]:
        body = request.json()
        if not isinstance(body, dict):
            return lacks("rejectCall")
        number.settings |= body
        return 201, {"settings": {"instanceName": number.id, "settings": number.settings}}

    def _settings_find(self, _request: Request, number: Number) -> tuple[int, Any]:
        return 200, number.settings


def _success(message: str) -> dict[str, Any]:
    return {"status": "SUCCESS", "error": False, "response": {"message": message}}


def _state(number: Number) -> str:
    """The cloud integration always says open; a ban shows as close."""
    if number.kind == "evolution_cloud":
        return "open"
    return number.state if number.state in ("open", "connecting") else "close"


def _listed(number: Number) -> dict[str, Any]:
    cloud = number.kind == "evolution_cloud"
    return {
        "id": number.row_id, "name": number.id, "connectionStatus": _state(number), "token": number.token,
        "ownerJid": f"{number.phone}@s.whatsapp.net" if number.phone else None, "profileName": number.name,
        "integration": "WHATSAPP-BUSINESS" if cloud else "WHATSAPP-BAILEYS", "number": number.graph_number or None,
        "businessId": number.waba or None, "Setting": number.settings,
    }  # fmt: skip
