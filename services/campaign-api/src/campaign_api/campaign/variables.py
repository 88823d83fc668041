"""Variables of a text: `{{ name | fallback }}`, case-insensitive. Pure."""

import re
from collections.abc import Iterable, Mapping

from campaign_api.upload.tables import Contact
from contracts.campaigns import Step

_VARIABLE = re.compile(r"\{\{\s*([^{}|]{1,64}?)\s*(?:\|([^{}]*))?\}\}")
NAMES = frozenset({"name", "nome"})
PHONES = frozenset({"phone", "telefone"})
IDS = frozenset({"id", "external_id"})


def variables_of(steps: Iterable[Step]) -> dict[str, bool]:
    """Lower-case name -> whether every use of it has a fallback."""
    found: dict[str, bool] = {}
    for step in steps:
        for text in (step.content, *step.template_parameters):
            for match in _VARIABLE.finditer(text):
                name = match[1].lower()
                found[name] = found.get(name, True) and bool((match[2] or "").strip())
    return found


def render(text: str, values: Mapping[str, str]) -> str:
    """`values` by lower-case name; a missing or empty one becomes its fallback, else nothing. Values are inert."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1].lower(), "") or (match[2] or "").strip()

    return _VARIABLE.sub(value, text)


def values_of(recipient: Contact) -> dict[str, str]:
    values = {name.strip().lower(): value for name, value in recipient.custom_fields.items()}
    values.update(dict.fromkeys(NAMES, recipient.name))
    values.update(dict.fromkeys(PHONES, recipient.phone))
    values.update(dict.fromkeys(IDS, recipient.external_id))
    return values


def blanks(steps: Iterable[Step], filled: Mapping[str, int], recipient_count: int) -> dict[str, int]:
    """Variables without a fallback that would be blank -> for how many recipients.

    `filled`: lower-case variable -> number of recipients that have a value for it.
    """
    return {
        name: recipient_count - filled.get(name, 0)
        for name, has_fallback in variables_of(steps).items()
        if not has_fallback and filled.get(name, 0) < recipient_count
    }
