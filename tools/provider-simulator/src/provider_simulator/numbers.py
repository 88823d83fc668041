"""The numbers (Meta), instances (Evolution, Z-API) and templates that the simulator plays, and their tallies."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from provider_simulator.faults import Chance, Faults
from provider_simulator.journeys import Journey
from provider_simulator.limits import PairRate, SlidingWindow, UniquePeople
from provider_simulator.people import Message
from provider_simulator.settings import Behaviour, NumberLimits, SettingRefused, overlay

KINDS = ("meta", "evolution_web", "evolution_cloud", "zapi")
STATES = ("open", "connecting", "close", "banned", "unpaid", "unregistered", "flagged", "deleted")


@dataclass(slots=True)
class Template:
    """A message template of a WABA, with components in Meta's form."""

    name: str
    language: str
    category: str = "MARKETING"
    status: str = "APPROVED"
    id: str = ""
    components: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As Meta lists it."""
        return {
            "name": self.name, "language": self.language, "category": self.category, "status": self.status,
            "id": self.id, "components": self.components, "parameter_format": "POSITIONAL",
        }  # fmt: skip


@dataclass(slots=True)
class Hook:
    """Where webhooks of a number go."""

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    events: tuple[str, ...] = ()  # Evolution: subscribed names; empty: all
    enabled: bool = True
    by_events: bool = False
    notify_sent_by_me: bool = False  # Z-API
    by_kind: dict[str, str] = field(default_factory=dict)  # Z-API: a URL for one kind of callback


@dataclass(slots=True)
class Queued:
    """A message in Z-API's queue: how it is listed, whose request it was, what will become of it."""

    entry: dict[str, Any]
    sending: Any  # world.Sending; numbers know nothing of requests
    message: Message
    journey: Journey


@dataclass(slots=True)
class Tally:
    """What a number was asked and what came of it."""

    fates: Counter[str] = field(default_factory=Counter)
    webhooks: Counter[str] = field(default_factory=Counter)
    open_requests: int = 0
    arrivals: SlidingWindow = field(default_factory=SlidingWindow)  # every send request, unlimited


@dataclass(slots=True)
class Number:
    """One number or instance."""

    id: str  # Meta: phone number id; Evolution: instance name; Z-API: instance id
    kind: str
    token: str = ""
    phone: str = "5511940000001"
    name: str = "Loja"
    state: str = "open"
    app_secret: str = ""
    verify_token: str = ""
    waba: str = ""
    portfolio: str = ""
    client_token: str = ""
    graph_number: str = ""  # Evolution in Cloud mode: the phone number id behind it
    quality: str = "GREEN"
    tier: str = "TIER_UNLIMITED"
    row_id: str = ""  # Evolution: instanceId
    hook: Hook = field(default_factory=Hook)
    behaviour: Behaviour = field(default_factory=Behaviour)
    limits: NumberLimits = field(default_factory=NumberLimits)
    faults: dict[str, Any] = field(default_factory=dict)  # over the global ones
    settings: dict[str, Any] = field(default_factory=dict)  # Evolution's /settings/set, as given
    disable_enqueue: bool = False  # Z-API: refuse to enqueue while disconnected
    qr_count: int = 0
    generation: int = 0  # of the connection: timers of an older one do nothing
    tally: Tally = field(default_factory=Tally)
    throughput: SlidingWindow = field(default_factory=SlidingWindow)
    pairs: PairRate = field(default_factory=PairRate)
    uniques: UniquePeople = field(default_factory=UniquePeople)  # shared within a portfolio
    windows: dict[str, int] = field(default_factory=dict)  # person -> wall ms of their last message
    turns: dict[int, int] = field(default_factory=dict)  # person -> requests so far, for the chance
    effective: Faults = field(default_factory=Faults)
    queue: deque[Queued] = field(default_factory=deque)  # Z-API
    pumping: bool = False  # the head of the queue waits for its moment

    def chance(self, seed: int, person: str) -> tuple[Chance, int]:
        """The chance of the next request to a person, and which request it is (0 the first)."""
        key = int(person) if person.isdigit() else hash(person)
        turn = self.turns.get(key, 0)
        self.turns[key] = turn + 1
        return Chance(seed, self.id, person, turn), turn

    def apply_limits(self) -> None:
        """Bring the windows in line with `limits`."""
        limits = self.limits
        self.throughput.limit = limits.mps if self.kind == "meta" else None
        self.pairs.burst = limits.pair_burst
        self.pairs.interval_s = limits.pair_interval_s or 6.0
        self.uniques.limit = limits.unique_24h

    def forget(self) -> None:
        """Drop history: tallies (but for requests still open), windows, turns."""
        self.tally = Tally(open_requests=self.tally.open_requests)
        self.throughput, self.pairs, self.uniques = SlidingWindow(), PairRate(), UniquePeople()
        self.windows, self.turns = {}, {}
        self.queue.clear()
        self.pumping = False

    def as_json(self) -> dict[str, Any]:
        """What the control API shows: everything but history. The fixtures' secrets are no secrets."""
        return {
            "id": self.id, "kind": self.kind, "token": self.token, "phone": self.phone, "name": self.name,
            "state": self.state, "app_secret": self.app_secret, "verify_token": self.verify_token,
            "waba": self.waba, "portfolio": self.portfolio, "client_token": self.client_token,
            "callback_url": self.hook.url, "callback_headers": self.hook.headers,
            "quality": self.quality, "tier": self.tier, "behaviour": self.behaviour, "limits": self.limits,
            "faults": self.faults,
        }  # fmt: skip


_PLAIN = (
    "token", "phone", "name", "state", "app_secret", "verify_token", "waba", "portfolio", "client_token",
    "graph_number", "quality", "tier",
)  # fmt: skip


def configure(number: Number, data: dict[str, Any]) -> None:
    """Apply a fixture or a change to a number; unknown names and values are refused."""
    for name, value in data.items():
        if name in _PLAIN:
            if not isinstance(value, str):
                raise SettingRefused(f"{name}: expected text")
            setattr(number, name, value)
        elif name == "callback_url":
            number.hook.url = str(value)
        elif name == "callback_headers":
            number.hook.headers = {str(key): str(text) for key, text in dict(value).items()}
        elif name == "behaviour":
            number.behaviour = overlay(number.behaviour, value)
        elif name == "limits":
            number.limits = overlay(number.limits, value)
        elif name == "faults":
            overlay(Faults(), value)  # refuses what it does not know
            number.faults = dict(value)
        elif name == "disable_enqueue":
            number.disable_enqueue = bool(value)
        elif name not in ("id", "kind", "templates"):
            raise SettingRefused(f"number: unknown setting {name!r}")
    if number.state not in STATES:
        raise SettingRefused(f"state: one of {', '.join(STATES)}")
    number.apply_limits()


def template_from(data: dict[str, Any], default_id: str) -> Template:
    """A template fixture: Meta's form, or the shortcut `body`."""
    unknown = set(data) - {"name", "language", "category", "status", "id", "components", "body"}
    if unknown or not data.get("name"):
        raise SettingRefused(f"template: unknown or missing {', '.join(sorted(unknown)) or 'name'}")
    components = list(data.get("components", ()))
    if data.get("body"):
        components.append({"type": "BODY", "text": data["body"]})
    return Template(
        name=data["name"], language=data.get("language", "pt_BR"), status=data.get("status", "APPROVED"),
        category=data.get("category", "MARKETING"), id=str(data.get("id") or default_id),
        components=components,
    )  # fmt: skip
