"""A step's content for one recipient: variables replaced, nothing left to be replaced. Pure; values are inert text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from contracts.campaigns import Step
from contracts.messages import Content

_VARIABLE = re.compile(r"\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}")
_NAME = frozenset({"nome", "name"})
_PHONE = frozenset({"telefone", "phone"})
_Part = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """What variables may say about a recipient."""

    phone: str
    name: str = ""
    custom_fields: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1024)
def _parts(template: str) -> tuple[_Part, ...]:
    """Plain text and (variable, fallback) by turns."""
    parts: list[_Part] = []
    end = 0
    for match in _VARIABLE.finditer(template):
        if match.start() > end:
            parts.append(template[end : match.start()])
        parts.append((match.group(1).casefold(), (match.group(2) or "").strip()))
        end = match.end()
    if end < len(template):
        parts.append(template[end:])
    return tuple(parts)


def variables(template: str) -> frozenset[str]:
    return frozenset(part[0] for part in _parts(template) if isinstance(part, tuple))


def _value(variable: str, person: Person) -> str:
    if variable in _NAME and person.name:
        return person.name
    if variable in _PHONE and person.phone:
        return person.phone
    for key, value in person.custom_fields.items():
        if key.strip().casefold() == variable:
            return value
    return ""


def fill(template: str, person: Person) -> str:
    """A missing variable becomes its fallback, or nothing."""
    parts = _parts(template)
    if len(parts) == 1 and isinstance(parts[0], str):
        return template
    return "".join(part if isinstance(part, str) else (_value(part[0], person) or part[1]) for part in parts)


def fill_in(step: Step, person: Person) -> dict[str, object]:
    """A Content as JSON takes it; what it does not tell has its default in the contract."""
    content: dict[str, object] = {"kind": step.kind, "text": fill(step.content, person)}
    if step.media_url is not None:
        content["media_url"] = step.media_url
    if step.kind != "template":
        if step.file_name is not None:
            content["file_name"] = step.file_name
        return content
    content["template_name"] = step.template_name
    content["template_language"] = step.template_language
    if step.template_parameters:
        parameters = [{"type": "text", "text": fill(parameter, person)} for parameter in step.template_parameters]
        content["template_components"] = [{"type": "body", "parameters": parameters}]
    return content


def render(step: Step, person: Person) -> Content:
    return Content.model_validate(fill_in(step, person))
