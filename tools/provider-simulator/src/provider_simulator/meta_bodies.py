"""What Meta accepts as the body of a message: types, lengths, links. Pure; returns the error or None."""

from collections.abc import Callable, Container
from typing import Any
from urllib.parse import urlsplit

from provider_simulator.meta_errors import GraphError

Json = dict[str, Any]
MEDIA = ("image", "video", "audio", "document", "sticker")


def missing(name: str) -> GraphError:
    """A required parameter is not there."""
    return GraphError(131008, f"Parameter '{name}' is mandatory.")


def invalid(name: str, why: str) -> GraphError:
    """A parameter has a value that Meta refuses."""
    return GraphError(131009, f"Parameter '{name}': {why}")


def check_text(value: Any, name: str, limit: int, *, required: bool = True) -> GraphError | None:
    """A text within its length."""
    if value is None or value == "":
        return missing(name) if required else None
    if not isinstance(value, str):
        return GraphError(100, f"Param {name} must be a string.")
    return invalid(name, f"must be at most {limit} characters long") if len(value) > limit else None


def check_link(link: Any, name: str, plain_hosts: Container[str]) -> GraphError | None:
    """A link that Meta would fetch: https, or http at an allowed host."""
    parts = urlsplit(link) if isinstance(link, str) else None
    if parts is None or not parts.hostname:
        return invalid(name, "is not a valid URL")
    allowed = parts.scheme == "https" or (
        parts.scheme == "http" and (parts.netloc in plain_hosts or parts.hostname in plain_hosts)
    )
    return None if allowed else invalid(name, "must be an https URL")


def check_envelope(body: Any) -> GraphError | None:
    """What every message needs: product, recipient, type, label."""
    if not isinstance(body, dict):
        return GraphError(100, "The body must be a JSON object.")
    if body.get("messaging_product") != "whatsapp":
        return GraphError(100, "The parameter messaging_product is required.")
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        return GraphError(100, "Param recipient_type must be one of {INDIVIDUAL, GROUP}.")
    to, recipient = body.get("to"), body.get("recipient")
    if not to and not recipient:
        return GraphError(100, "The parameter to is required.")
    if to is not None and (not isinstance(to, str) or not 7 <= sum(map(str.isdigit, to)) <= 15):
        return invalid("to", "is not a valid phone number")
    if not to and (not isinstance(recipient, str) or len(recipient) > 131 or "." not in recipient):
        return invalid("recipient", "is not a valid business-scoped user id")
    label = body.get("biz_opaque_callback_data")
    if label is not None and (not isinstance(label, str) or len(label) > 512):
        return invalid("biz_opaque_callback_data", "must be at most 512 characters long")
    context = body.get("context")
    if context is not None and not (isinstance(context, dict) and context.get("message_id")):
        return missing("context['message_id']")
    return None


def check_content(body: Json, plain_hosts: Container[str], media_ids: Container[str]) -> GraphError | None:
    """The object of the message's type. Templates are checked against the account's templates elsewhere."""
    kind = body.get("type", "text")
    if kind in MEDIA:
        return _check_media(body.get(kind), kind, plain_hosts, media_ids)
    check = _CHECKS.get(kind)
    if check is None:
        return GraphError(131051, f"Message type '{kind}' is currently not supported.")
    content = body.get(kind)
    if kind == "contacts":
        return _check_contacts(content)
    return check(content) if isinstance(content, dict) else missing(kind)


def _check_media(content: Any, kind: str, plain_hosts: Container[str],
                 media_ids: Container[str]) -> GraphError | None:  # fmt: skip
    if not isinstance(content, dict):
        return missing(kind)
    if bool(content.get("id")) == bool(content.get("link")):
        return GraphError(100, f"Exactly one of {kind}['id'] and {kind}['link'] is required.")
    if content.get("link"):
        error = check_link(content["link"], f"{kind}['link']", plain_hosts)
        if error is not None:
            return error
    elif str(content["id"]) not in media_ids:
        return invalid(f"{kind}['id']", "no media with this id")
    if kind in ("audio", "sticker") and "caption" in content:
        return GraphError(100, f'Unexpected key "caption" on param "{kind}".')
    if kind != "document" and "filename" in content:
        return GraphError(100, f'Unexpected key "filename" on param "{kind}".')
    return check_text(content.get("caption"), f"{kind}['caption']", 1024, required=False)


def _check_body(content: Json) -> GraphError | None:
    return check_text(content.get("body"), "text['body']", 4096)


def _check_location(content: Json) -> GraphError | None:
    for name in ("latitude", "longitude"):
        try:
            float(content.get(name, ""))
        except (TypeError, ValueError):
            return missing(f"location['{name}']")
    return None


def _check_contacts(content: Any) -> GraphError | None:
    if not isinstance(content, list) or not content:
        return missing("contacts")
    for contact in content:
        name = contact.get("name") if isinstance(contact, dict) else None
        if not isinstance(name, dict) or not name.get("formatted_name"):
            return missing("contacts['name']['formatted_name']")
    return None


def _check_reaction(content: Json) -> GraphError | None:
    if not content.get("message_id"):
        return missing("reaction['message_id']")
    return None if "emoji" in content else missing("reaction['emoji']")


def _check_interactive(content: Json) -> GraphError | None:
    action, kind = content.get("action"), content.get("type")
    if not isinstance(action, dict):
        return missing("interactive['action']")
    body = content.get("body")
    text = body.get("text") if isinstance(body, dict) else None
    if kind == "button":
        error = check_text(text, "interactive['body']['text']", 1024)
        return error or _check_footer(content) or _check_buttons(action.get("buttons"))
    if kind == "list":
        error = check_text(text, "interactive['body']['text']", 4096)
        return error or _check_footer(content) or _check_rows(action)
    if kind in ("cta_url", "flow", "product", "product_list", "catalog_message", "location_request_message"):
        return None
    return invalid("interactive['type']", "is not one of the supported types")


def _check_footer(content: Json) -> GraphError | None:
    footer = content.get("footer")
    text = footer.get("text") if isinstance(footer, dict) else None
    return check_text(text, "interactive['footer']['text']", 60, required=False)


def _check_buttons(buttons: Any) -> GraphError | None:
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= 3:
        return invalid("interactive['action']['buttons']", "between 1 and 3 buttons are allowed")
    ids = set()
    for button in buttons:
        reply = button.get("reply") if isinstance(button, dict) else None
        if not isinstance(reply, dict):
            return missing("interactive['action']['buttons']['reply']")
        error = check_text(reply.get("id"), "reply['id']", 256) or check_text(reply.get("title"), "reply['title']", 20)
        if error is not None:
            return error
        ids.add(reply["id"])
    return None if len(ids) == len(buttons) else invalid("reply['id']", "must be unique")


def _check_rows(action: Json) -> GraphError | None:
    sections = action.get("sections")
    if not isinstance(sections, list) or not 1 <= len(sections) <= 10:
        return invalid("interactive['action']['sections']", "between 1 and 10 sections are allowed")
    error = check_text(action.get("button"), "interactive['action']['button']", 20)
    rows = [row for section in sections for row in section.get("rows", ())]
    if error is None and not 1 <= len(rows) <= 10:
        error = invalid("interactive['action']['sections']", "between 1 and 10 rows are allowed in total")
    for row in rows:
        error = (
            error
            or check_text(row.get("id"), "row['id']", 200)
            or check_text(row.get("title"), "row['title']", 24)
            or check_text(row.get("description"), "row['description']", 72, required=False)
        )
    return error


def _check_template(content: Json) -> GraphError | None:
    language = content.get("language")
    if not content.get("name"):
        return missing("template['name']")
    if not isinstance(language, dict) or not language.get("code"):
        return missing("template['language']['code']")
    return None


_CHECKS: dict[str, Callable[[Json], GraphError | None]] = {
    "text": _check_body,
    "location": _check_location,
    "contacts": _check_contacts,
    "reaction": _check_reaction,
    "interactive": _check_interactive,
    "template": _check_template,
}


def text_of(body: Json) -> str:
    """What the person reads, for the log's digest and the mailbox."""
    kind = body.get("type", "text")
    content = body.get(kind)
    if kind == "text" and isinstance(content, dict):
        return str(content.get("body", ""))
    if kind in MEDIA and isinstance(content, dict):
        return str(content.get("caption") or content.get("filename") or "")
    if kind == "interactive" and isinstance(content, dict):
        return str((content.get("body") or {}).get("text", ""))
    if kind == "reaction" and isinstance(content, dict):
        return str(content.get("emoji", ""))
    return ""
