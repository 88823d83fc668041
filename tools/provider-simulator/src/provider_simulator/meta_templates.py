"""Whether a template message fits the account's template: exists, approved, right parameters. Pure."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from provider_simulator.meta_errors import GraphError
from provider_simulator.numbers import Template

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def variables(text: str) -> list[str]:
    """The distinct variables of a text, in order."""
    return list(dict.fromkeys(_VARIABLE.findall(text or "")))


def check_template(templates: Mapping[tuple[str, str], Template], content: dict[str, Any]) -> GraphError | None:
    """The error that Meta would answer to this template message, or None."""
    name, language = content["name"], content["language"]["code"]
    template = templates.get((name, language))
    if template is None or template.status in ("PENDING", "REJECTED", "PENDING_DELETION", "ARCHIVED"):
        return GraphError(132001, f"template name ({name}) does not exist in {language}")
    if template.status == "PAUSED":
        return GraphError(132015)
    if template.status == "DISABLED":
        return GraphError(132016)
    given = [part for part in content.get("components") or () if isinstance(part, dict)]
    for component in template.components:
        error = _check_component(component, given)
        if error is not None:
            return error
    return None


def _parameters(given: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    for part in given:
        if str(part.get("type", "")).lower() == kind:
            return [p for p in part.get("parameters") or () if isinstance(p, dict)]
    return []


def _check_component(component: dict[str, Any], given: list[dict[str, Any]]) -> GraphError | None:
    kind = str(component.get("type", "")).lower()
    if kind == "buttons":
        return _check_buttons(component.get("buttons") or (), given)
    if kind not in ("header", "body"):
        return None
    parameters = _parameters(given, kind)
    media = str(component.get("format", "TEXT")).lower()
    if kind == "header" and media in ("image", "video", "document"):
        if len(parameters) != 1 or parameters[0].get("type") != media:
            return GraphError(132012, f"header: Format mismatch, expected {media.upper()}")
        return None
    expected = len(variables(component.get("text", "")))
    if len(parameters) != expected:
        return GraphError(
            132000, f"{kind}: number of localizable_params ({len(parameters)}) does not match the expected "
            f"number of params ({expected})",
        )  # fmt: skip
    for parameter in parameters:
        if parameter.get("type") == "text" and not parameter.get("text"):
            return GraphError(131008, f"Parameter of type text is missing text value in {kind}")
    return None


def _check_buttons(buttons: Any, given: list[dict[str, Any]]) -> GraphError | None:
    for index, button in enumerate(buttons):
        if button.get("type") != "URL" or not variables(button.get("url", "")):
            continue
        filled = any(
            str(part.get("type", "")).lower() == "button" and str(part.get("index")) == str(index)
            and part.get("parameters")
            for part in given
        )  # fmt: skip
        if not filled:
            return GraphError(131008, f"Button at index {index} of type Url requires a parameter")
    return None


def rendered(template: Template | None, content: dict[str, Any]) -> str:
    """The body's text with its parameters filled in."""
    if template is None:
        return ""
    body = next((c for c in template.components if str(c.get("type", "")).upper() == "BODY"), None)
    text = str(body.get("text", "")) if body else ""
    parameters = _parameters([p for p in content.get("components") or () if isinstance(p, dict)], "body")
    for name, parameter in zip(variables(text), parameters, strict=False):
        value = str(parameter.get("text", ""))
        text = _VARIABLE.sub(partial(_filled, name, value), text)
    return text


def _filled(name: str, value: str, found: re.Match[str]) -> str:
    return value if found.group(1) == name else found.group(0)
