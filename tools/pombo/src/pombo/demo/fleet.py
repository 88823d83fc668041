"""The numbers of a run: at the simulator, and as instances of an account."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.stack.failures import StackFailed
from pombo.stack.services import Addresses
from pombo.stack.stack import EVOLUTION_KEY

CLIENT_TOKEN = "zapi-client-token"
ZAPI_INSTANCE = "3C0FFEE000000000000000000000AAAA"
GRAPH_NUMBER = "100000000000002"
EVERYBODY = 1_000_000
CONNECTED_WITHIN_S = 60.0
POLL_S = 0.2


class NotConnected(StackFailed):
    """An instance was not connected at its gateway in time; the sender's log says what the gateway answered."""

    def __init__(self, kind: str, status: str) -> None:
        super().__init__(f"The {kind} number is still {status} after {CONNECTED_WITHIN_S:.0f} s: see the sender's log.")


@dataclass(frozen=True, slots=True)
class NumberPlan:
    """One number of the pool. `per_second`: the limit that no window may pass; `max_users`: bound people.

    `graph_number`: the id at Meta behind an evolution_cloud number. `portfolio`: shares the limit of people in 24 h.
    """

    kind: str
    id: str
    phone: str
    per_second: float = 80.0
    pair_per_minute: float = 10.0
    pair_burst: int = 45
    unique_24h: int | None = 100_000
    max_users: int = EVERYBODY
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    graph_number: str = GRAPH_NUMBER
    portfolio: str | None = None

    @property
    def name(self) -> str:
        return self.title or f"Aura {self.kind}"

    @property
    def limits(self) -> dict[str, Any]:
        """As the API takes them: sending as fast as the limit lets us."""
        return {
            "messages_per_second": self.per_second,
            "target_per_second": self.per_second,
            "pair_per_minute": self.pair_per_minute,
            "pair_burst": self.pair_burst,
            "unique_per_24h": self.unique_24h,
        }


@dataclass(frozen=True, slots=True)
class PoolNumber:
    """A number as the audit needs it: our id, the id in the witness log, and the limits that were promised."""

    instance_id: str
    number: str
    kind: str
    per_second: float
    pair_per_minute: float
    pair_burst: int
    unique_24h: int | None
    portfolio: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def four_kinds(people: int) -> list[NumberPlan]:
    """One number of each kind; the two web kinds take a small share, as slow as such numbers are."""
    few = max(3, people // 50)
    return [
        NumberPlan("meta_cloud", "100000000000001", "5511988880001"),
        NumberPlan("evolution_cloud", "aura-cloud", "5511988880002"),
        NumberPlan("evolution_web", "aura-web", "5511988880003", per_second=5, max_users=few, unique_24h=None),
        NumberPlan("zapi", ZAPI_INSTANCE, "5511988880004", per_second=5, max_users=few, unique_24h=None),
    ]


def add_number(
    plan: NumberPlan, api: Api, simulator: Simulator, addresses: Addresses, known: dict[str, Any] | None = None
) -> PoolNumber:
    """At the simulator and in the account, each told of the other as a person would do it.

    `known`: the instance if the account has it already; it gets new credentials then.
    """
    match plan.kind:
        case "meta_cloud":
            instance = _add_meta(plan, api, simulator, addresses, known)
        case "zapi":
            instance = _add_zapi(plan, api, simulator, addresses, known)
        case _:
            instance = _add_evolution(plan, api, simulator, addresses, known)
    return PoolNumber(
        instance_id=instance["id"],
        number=plan.id,
        kind=plan.kind,
        per_second=plan.per_second,
        pair_per_minute=plan.pair_per_minute,
        pair_burst=plan.pair_burst,
        unique_24h=plan.unique_24h,
        portfolio=plan.portfolio,
    )


def _add_meta(
    plan: NumberPlan, api: Api, simulator: Simulator, addresses: Addresses, known: dict[str, Any] | None
) -> dict[str, Any]:
    token, app_secret, verify_token = (secrets.token_urlsafe(24) for _ in range(3))
    simulator.add_number(
        kind="meta",
        id=plan.id,
        phone=plan.phone,
        token=token,
        app_secret=app_secret,
        verify_token=verify_token,
        callback_url=f"{addresses.webhooks}/api/webhook/meta",
        limits={"mps": plan.per_second, "unique_24h": plan.unique_24h},
        behaviour=dict(plan.behaviour),
        **({"portfolio": plan.portfolio} if plan.portfolio else {}),
    )
    credentials = {"access_token": token, "app_secret": app_secret, "verify_token": verify_token}
    return _instance(plan, api, addresses, known, phone_number_id=plan.id, credentials=credentials)


def _add_evolution(
    plan: NumberPlan, api: Api, simulator: Simulator, addresses: Addresses, known: dict[str, Any] | None
) -> dict[str, Any]:
    """Nothing at the simulator: connecting makes it there, sets our webhook, and somebody scans the QR code."""
    fields: dict[str, Any] = {"instance_name": plan.id, "credentials": {"apikey": EVOLUTION_KEY}}
    if plan.kind == "evolution_cloud":
        token = secrets.token_urlsafe(24)
        fields["credentials"]["access_token"] = token
        fields["phone_number_id"] = plan.graph_number
        # The number at Meta behind the gateway: its throughput holds.
        simulator.add_number(
            kind="meta", id=plan.graph_number, phone=plan.phone, token=token, limits={"mps": plan.per_second}
        )
    instance = _instance(plan, api, addresses, known, **fields)
    _connect(api, plan)
    if plan.behaviour:
        simulator.change_number(plan.id, behaviour=dict(plan.behaviour))
    return instance


def _add_zapi(
    plan: NumberPlan, api: Api, simulator: Simulator, addresses: Addresses, known: dict[str, Any] | None
) -> dict[str, Any]:
    """Bought in Z-API's panel, so it is there; connecting sets our webhook and asks for the QR code."""
    token = secrets.token_hex(12).upper()
    behaviour = dict(plan.behaviour)
    simulator.add_number(kind="zapi", id=plan.id, token=token, phone=plan.phone, state="close", behaviour=behaviour)
    credentials = {"instance_id": plan.id, "token": token, "client_token": CLIENT_TOKEN}
    instance = _instance(plan, api, addresses, known, credentials=credentials)
    _connect(api, plan)
    return instance


def _connect(api: Api, plan: NumberPlan) -> None:
    """As a person does it: ask, show the QR code, wait until somebody has scanned it. Raises NotConnected."""
    api.post("/api/instance/connect", json={"instanceName": plan.name})
    deadline_s = time.monotonic() + CONNECTED_WITHIN_S
    while (status := api.get("/api/instance/status", params={"instanceName": plan.name}))["status"] != "connected":
        if time.monotonic() > deadline_s:
            raise NotConnected(plan.kind, status["status"])
        time.sleep(POLL_S)


def _instance(
    plan: NumberPlan, api: Api, addresses: Addresses, known: dict[str, Any] | None, **fields: Any
) -> dict[str, Any]:
    if known is not None:
        changed: dict[str, Any] = api.patch(f"/api/instances/{known['id']}", json=fields)
        return changed
    made: dict[str, Any] = api.post(
        "/api/instances",
        json={
            "name": plan.name,
            "provider": plan.kind,
            "server_url": addresses.simulator,
            "phone_number": plan.phone,
            "max_users": plan.max_users,
            "portfolio_id": plan.portfolio,
            "limits": plan.limits,
            **fields,
        },
    )
    return made
