"""What can be set, each with unit and default, and the strict reading of it from JSON."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class SettingRefused(ValueError):
    """A setting has an unknown name or a value of the wrong kind; the text names it."""


def overlay(current: T, data: dict[str, Any]) -> T:
    """The same settings with these values replaced. Lists become tuples; unknown names are refused."""
    if not isinstance(data, dict):
        raise SettingRefused(f"{type(current).__name__}: expected an object")
    known = {field.name for field in dataclasses.fields(current)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise SettingRefused(f"{type(current).__name__}: unknown setting {name!r}")
        values[name] = _fitted(name, getattr(current, name), value)
    return dataclasses.replace(current, **values)  # type: ignore[type-var]


def _fitted(name: str, old: Any, value: Any) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    if old is None or value is None:
        return value
    if isinstance(old, bool) != isinstance(value, bool):
        raise SettingRefused(f"{name}: expected {type(old).__name__}, got {type(value).__name__}")
    if isinstance(old, int | float) and isinstance(value, int | float):
        return type(old)(value)
    if not isinstance(value, type(old)):
        raise SettingRefused(f"{name}: expected {type(old).__name__}, got {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What becomes of accepted messages. Spans are (from, to) in seconds, drawn evenly, time-scaled."""

    sent_after_s: tuple[float, float] = (0.05, 0.2)
    delivered_after_s: tuple[float, float] = (0.2, 1.0)
    read_after_s: tuple[float, float] = (1.0, 5.0)
    reply_after_s: tuple[float, float] = (2.0, 10.0)
    delivered_share: float = 1.0
    read_share: float = 1.0
    failed_share: float = 0.0
    failed_codes: tuple[int, ...] = (131026, 131049)
    reply_share: float = 0.0
    replies: tuple[str, ...] = ("Quero saber mais", "Quanto custa?", "Obrigado!", "SAIR")
    bsuid_share: float = 0.0  # people who write without a phone number (Meta)
    qr_scan_after_s: float = 3.0  # someone scans the QR code; negative: nobody does until /_control/scan
    qr_rotate_after_s: float = 30.0
    queue_gap_s: tuple[float, float] = (1.0, 3.0)  # Z-API's queue, when the request names no delay
    missing_suffixes: tuple[str, ...] = ()  # phones ending so are not on WhatsApp


@dataclass(frozen=True, slots=True)
class NumberLimits:
    """Limits of one number. None: not enforced."""

    mps: int | None = 80
    throttle_status: int = 429  # HTTP status of 130429 (Meta answers 429 or 400)
    pair_interval_s: float | None = 6.0
    pair_burst: int = 45
    unique_24h: int | None = None  # per portfolio
    unique_exceeded_code: int = 131048  # accepted, then failed with this code
    enforce_window: bool = False  # free-form only within 24 h of the person's last message
    window_s: float = 24 * 3600.0  # not time-scaled


@dataclass(frozen=True, slots=True)
class Delivery:
    """How webhooks are posted. Gaps and late times are time-scaled, time-outs are not."""

    meta_gaps_s: tuple[float, ...] = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
    evolution_gaps_s: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0)
    zapi_gaps_s: tuple[float, ...] = ()  # no retry is documented
    timeout_s: float = 30.0
    connections: int = 128  # at once, per receiver
    webhook_batch: int = 1  # statuses per POST (Meta)
    webhook_batch_ms: float = 50.0  # how long a batch may wait to fill


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the whole simulator."""

    seed: int = 1
    time_scale: float = 1.0
    cards: bool = True
    keep_messages: int = 100_000
    # Hosts (or host:port) for which http is as good as https in media links and webhook addresses.
    plain_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    evolution_api_key: str = "evolution-global-key"
    evolution_version: str = "2.3.7"
    evolution_licensed: bool = True  # only 2.4.0 asks
    evolution_server_url: str = "http://evolution.simulated"
    zapi_client_token: str = "zapi-client-token"
    zapi_partner_token: str = "zapi-partner-token"
    zapi_check_client_token: bool = True
    zapi_queue_limit: int = 1000  # while disconnected
