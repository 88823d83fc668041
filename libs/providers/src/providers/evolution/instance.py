"""Life cycle of an Evolution instance: create, connect, ask, end."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from providers import failures as f
from providers.address import join_addresses, read_jid
from providers.calls import (
    CallAnswer,
    CallDone,
    CallFailed,
    InstanceFound,
    InstanceMade,
    InstancesListed,
    NumberChecked,
    NumbersChecked,
    QrAnswered,
    StateAnswered,
    VersionAnswered,
    WebhookTarget,
)
from providers.events import ConnectionState
from providers.evolution.codes import STATES, error_texts, read_error_answer
from providers.evolution.send import gateway_headers, gateway_url
from providers.meta_cloud.codes import classify
from providers.protocol import Account, HttpRequest, Rejected
from providers.wire import (
    obj,
    objects,
    read_any,
    text,
    whole,
)

# What we want to hear of. Contacts, chats and presence multiply the traffic by four to eight.
EVENTS: Final = (
    "MESSAGES_UPSERT", "MESSAGES_UPDATE", "MESSAGES_EDITED", "MESSAGES_DELETE", "SEND_MESSAGE", "CONNECTION_UPDATE",
    "QRCODE_UPDATED", "STATUS_INSTANCE", "LOGOUT_INSTANCE", "REMOVE_INSTANCE", "GROUPS_UPSERT",
    "GROUP_PARTICIPANTS_UPDATE",
)  # fmt: skip


def _webhook(webhook: WebhookTarget) -> dict[str, Any]:
    return {
        "enabled": True,
        "url": webhook.url,
        "headers": {"apikey": webhook.key},
        "byEvents": False,
        "base64": False,
        "events": list(EVENTS),
    }


def create_request(account: Account, webhook: WebhookTarget) -> HttpRequest:
    body: dict[str, Any] = {
        "instanceName": account.instance_name,
        "integration": "WHATSAPP-BUSINESS" if account.kind == "evolution_cloud" else "WHATSAPP-BAILEYS",
        "qrcode": account.kind == "evolution_web",
        "webhook": _webhook(webhook),
    }
    if account.kind == "evolution_cloud":
        body["token"] = account.credentials.get("access_token", "")
        body["number"] = account.phone_number_id
        body["businessId"] = account.credentials.get("business_id", "")
    url = f"{account.server_url.rstrip('/')}/instance/create"
    return HttpRequest("POST", url, gateway_headers(account), orjson.dumps(body))


def qr_request(account: Account) -> HttpRequest:
    return HttpRequest("GET", gateway_url(account, "instance/connect"), gateway_headers(account))


def state_request(account: Account) -> HttpRequest:
    return HttpRequest("GET", gateway_url(account, "instance/connectionState"), gateway_headers(account))


def restart_request(account: Account) -> HttpRequest:
    return HttpRequest("POST", gateway_url(account, "instance/restart"), gateway_headers(account))


def list_request(account: Account) -> HttpRequest:
    """All instances that this key may see, with their current keys (to learn a rotated one)."""
    url = f"{account.server_url.rstrip('/')}/instance/fetchInstances"
    return HttpRequest("GET", url, gateway_headers(account))


def version_request(account: Account) -> HttpRequest:
    """Slow at times: the gateway asks WhatsApp for its version first."""
    return HttpRequest("GET", f"{account.server_url.rstrip('/')}/", gateway_headers(account))


def probe_request(account: Account) -> HttpRequest | None:
    """The version decides whether ids of ours are honoured, on WhatsApp Web."""
    return version_request(account) if account.kind == "evolution_web" else None


def webhook_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    body = orjson.dumps({"webhook": _webhook(webhook)})
    return (HttpRequest("POST", gateway_url(account, "webhook/set"), gateway_headers(account), body),)


def connect_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    """Create (refused with `exists` when it is there already), set the webhook, ask for the QR code.

    Over the Cloud API there is no code to scan and no connection.update ever comes: its state is asked for instead.
    """
    made = (create_request(account, webhook), *webhook_requests(account, webhook))
    return (*made, state_request(account) if account.kind == "evolution_cloud" else qr_request(account))


def disconnect_requests(account: Account) -> tuple[HttpRequest, ...]:
    return (HttpRequest("DELETE", gateway_url(account, "instance/logout"), gateway_headers(account)),)


def delete_requests(account: Account) -> tuple[HttpRequest, ...]:
    return (
        *disconnect_requests(account),
        HttpRequest("DELETE", gateway_url(account, "instance/delete"), gateway_headers(account)),
    )


def read_call(status: int, headers: Mapping[str, str], body: bytes) -> CallAnswer:  # noqa: ARG001
    answer = read_any(body)
    if not 200 <= status < 300:
        return _failed(status, obj(answer))
    if isinstance(answer, list):
        return _read_list(answer)
    if not isinstance(answer, dict):
        return CallFailed(f.PROVIDER_BUSY, status, retryable=True)
    if answer.get("error") is True:
        return CallFailed(f.OPERATION_REFUSED, status, error_texts(answer), retryable=True)
    graph_code = whole(answer.get("code"))
    if graph_code is not None:
        return CallFailed(classify(graph_code), status, error_texts(answer))
    instance = obj(answer.get("instance"))
    if "hash" in answer:
        return InstanceMade(
            gateway_id=text(instance.get("instanceId")),
            token=text(answer["hash"]) or text(obj(answer["hash"]).get("apikey")),
            qr=_qr(obj(answer.get("qrcode"))),
        )
    state = _state(instance.get("state")) or _state(answer.get("state"))
    if state is not None:
        return StateAnswered(state)
    qr = _qr(answer) or _qr(obj(answer.get("qrcode")))
    if qr is not None:
        return qr
    version = text(answer.get("version"))
    return VersionAnswered(version) if version and "message" in answer else CallDone(answer)


def _state(value: object) -> ConnectionState | None:
    return STATES.get((text(value) or "").lower())


def _qr(answer: Mapping[str, Any]) -> QrAnswered | None:
    code, image = text(answer.get("code")), text(answer.get("base64"))
    pairing_code = text(answer.get("pairingCode"))
    return QrAnswered(code, image, pairing_code) if code or image or pairing_code else None


def _failed(status: int, answer: Mapping[str, Any]) -> CallFailed:
    said = error_texts(answer)
    if status == 403 and "already in use" in said:
        return CallFailed(f.BAD_REQUEST, status, said, exists=True)
    outcome = read_error_answer(status, answer, None)
    if isinstance(outcome, Rejected):
        return CallFailed(outcome.failure, status, said, outcome.retryable)
    return CallFailed(f.PROVIDER_BUSY, status, said, retryable=True)


def _read_list(answer: list[Any]) -> CallAnswer:
    rows = objects(answer)
    if any("exists" in row for row in rows):
        return NumbersChecked(tuple(_number(row) for row in rows))
    return InstancesListed(tuple(_instance(row) for row in rows))


def _number(row: Mapping[str, Any]) -> NumberChecked:
    return NumberChecked(row.get("exists") is True, join_addresses(read_jid(row.get("jid")), read_jid(row.get("lid"))))


def _instance(row: Mapping[str, Any]) -> InstanceFound:
    """v2 lists flat rows; older answers wrap them in `instance`."""
    inner = obj(row.get("instance")) or row
    return InstanceFound(
        name=text(inner.get("name")) or text(inner.get("instanceName")),
        state=_state(inner.get("connectionStatus")) or _state(inner.get("state")) or _state(inner.get("status")),
        phone=read_jid(inner.get("ownerJid") or inner.get("owner")).phone,
        token=text(inner.get("token")) or text(inner.get("apikey")),
    )
