"""Fixtures: the configuration file, and numbers made from JSON."""

from pathlib import Path
from typing import Any

import orjson

from provider_simulator.numbers import KINDS, Number, configure, template_from
from provider_simulator.settings import Delivery, SettingRefused, Settings, overlay
from provider_simulator.world import World

DEFAULT_TEMPLATES: tuple[dict[str, Any], ...] = (
    {"name": "hello_world", "language": "en_US", "category": "UTILITY", "body": "Hello World"},
    {"name": "promo", "language": "pt_BR", "body": "Olá {{1}}, temos uma novidade para você."},
    {"name": "aviso", "language": "pt_BR", "category": "UTILITY", "body": "Olá {{1}}, seu pedido {{2}} saiu."},
)


def read_config(path: Path | None) -> dict[str, Any]:
    """The configuration file: settings, delivery, faults, numbers, templates."""
    if path is None:
        return {}
    data = orjson.loads(path.read_bytes())
    unknown = set(data) - {"settings", "delivery", "faults", "numbers"}
    if unknown:
        raise SettingRefused(f"config: unknown part {', '.join(sorted(unknown))}")
    return dict(data)


def settings_from(current: Settings, data: dict[str, Any]) -> Settings:
    """Settings changed by JSON, checked."""
    settings = overlay(current, data)
    if settings.time_scale <= 0:
        raise SettingRefused("time_scale: must be above 0")
    return settings


def delivery_from(data: dict[str, Any]) -> Delivery:
    """Delivery settings from JSON."""
    return overlay(Delivery(), data)


def add_number(world: World, data: dict[str, Any]) -> Number:
    """Make a number or instance from a fixture; an existing one with this id is replaced."""
    kind = data.get("kind")
    if kind not in KINDS:
        raise SettingRefused(f"kind: one of {', '.join(KINDS)}")
    number = Number(id=str(data.get("id") or world.mint.digits()), kind=kind)
    number.token = f"token-{number.id}"
    number.row_id = world.mint.uuid()
    if kind == "meta":
        number.waba = f"waba-{number.id}"
    if kind == "zapi":
        number.client_token = world.settings.zapi_client_token
    if kind == "evolution_web":
        number.state = "close"
    configure(number, data)
    world.adopt(number)
    if kind == "meta":
        templates = world.templates.setdefault(number.waba, {})
        for fixture in (*DEFAULT_TEMPLATES, *data.get("templates", ())):
            template = template_from(dict(fixture), world.mint.digits())
            templates[(template.name, template.language)] = template
    return number
