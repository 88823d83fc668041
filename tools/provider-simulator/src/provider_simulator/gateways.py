"""The providers side by side: routing by path, and what every kind of number can be told from outside."""

from typing import Any

from provider_simulator.door import Request
from provider_simulator.evolution import FAMILIES, Evolution
from provider_simulator.graph import Graph
from provider_simulator.meta import MetaMessages
from provider_simulator.numbers import STATES, Number
from provider_simulator.settings import SettingRefused
from provider_simulator.world import World
from provider_simulator.zapi import Zapi


class Gateways:
    """Meta, Evolution and Z-API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._meta = MetaMessages(world)
        self._graph = Graph(world, self._meta)
        self._evolution = Evolution(world)
        self._zapi = Zapi(world)

    def set_base_url(self, url: str) -> None:
        """Our own address, for links in answers."""
        self._graph.base_url = url

    def handle(self, request: Request, first: str, parts: list[str]) -> bool:
        """Serve the request if a provider has this path."""
        if first[:1] == "v" and first[1:2].isdigit() and len(parts) > 1:
            self._graph.handle(request, parts[1:])
        elif first in FAMILIES:
            self._evolution.handle(request, parts)
        elif first == "instances":
            self._zapi.handle(request, parts)
        elif not parts and request.method == "GET":
            self._evolution.welcome(request)
        else:
            return False
        return True

    def write_in(self, number: Number, person: str, phone: str, content: dict[str, Any], *, name: str,
                 bsuid: bool) -> str:  # fmt: skip
        """A person writes to the number; `bsuid` hides the phone (a BSUID at Meta, a lid on web sessions)."""
        if number.kind == "meta":
            return self._meta.write_in(number, person, phone, content, name=name, bsuid=bsuid)
        if number.kind == "zapi":
            return self._zapi.queues.write_in(number, person, phone, content, name=name, lid=bsuid)
        return self._evolution.messages.write_in(number, person, phone, content, name=name, lid=bsuid)

    def change_state(self, number: Number, state: str) -> None:
        """Connect, disconnect, ban, …, with the events that the provider would post."""
        if state not in STATES:
            raise SettingRefused(f"state: one of {', '.join(STATES)}")
        if number.kind == "evolution_web" and state == "open":
            self._evolution.instances.open(number)
        elif number.kind == "evolution_web" and state in ("close", "banned"):
            self._evolution.instances.close(number, 401 if state == "close" else 403)
            number.state = state
        elif number.kind == "zapi" and state in ("open", "close", "banned"):
            self._zapi.queues.set_connected(number, state == "open")
            number.state = state
        else:
            number.state = state
            self._world.witness.note("connection", provider=number.kind, number=number.id, state=state)

    def tell(self, number: Number, data: dict[str, Any]) -> None:
        """Post an event: a Meta change {field, value}, a template's new status, or any Evolution event."""
        if "template" in data:
            language = str(data.get("language", "pt_BR"))
            if not self._graph.set_template_status(number, data["template"], language, data["status"]):
                raise SettingRefused("no such template")
        elif number.kind.startswith("evolution"):
            self._evolution.instances.emit(number, str(data["event"]), data["data"])
        elif number.kind == "zapi":
            self._zapi.queues.post(number, str(data.get("hook", "received")), dict(data["body"]), ())
        else:
            field = str(data["field"])
            self._world.callbacks.post_meta(number, dict(data["value"]), "account", ((field, ""),), field)
