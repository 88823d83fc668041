"""The providers side by side: routing by path, and what every kind of number can be told from outside."""

from typing import Any

from provider_simulator.door import Request
from provider_simulator.graph import Graph
from provider_simulator.meta import MetaMessages
from provider_simulator.numbers import STATES, Number
from provider_simulator.settings import SettingRefused
from provider_simulator.world import World


class Gateways:
    """Meta, Evolution and Z-API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._meta = MetaMessages(world)
        self._graph = Graph(world, self._meta)

    def set_base_url(self, url: str) -> None:
        """Our own address, for links in answers."""
        self._graph.base_url = url

    def handle(self, request: Request, first: str, parts: list[str]) -> bool:
        """Serve the request if a provider has this path."""
        if first[:1] == "v" and first[1:2].isdigit() and len(parts) > 1:
            self._graph.handle(request, parts[1:])
            return True
        return False

    def write_in(self, number: Number, person: str, phone: str, content: dict[str, Any], *, name: str,
                 bsuid: bool) -> str:  # fmt: skip
        """A person writes to the number."""
        return self._meta.write_in(number, person, phone, content, name=name, bsuid=bsuid)

    def change_state(self, number: Number, state: str) -> None:
        """Connect, disconnect, ban, …"""
        if state not in STATES:
            raise SettingRefused(f"state: one of {', '.join(STATES)}")
        number.state = state
        self._world.witness.note("connection", provider=number.kind, number=number.id, state=state)

    def tell(self, number: Number, data: dict[str, Any]) -> None:
        """Post an account event: Meta's {field, value}, or a template's new status."""
        if "template" in data:
            language = str(data.get("language", "pt_BR"))
            if not self._graph.set_template_status(number, data["template"], language, data["status"]):
                raise SettingRefused("no such template")
            return
        field = str(data["field"])
        self._world.callbacks.post_meta(number, dict(data["value"]), "account", ((field, ""),), field)
