"""The raw webhook as it is kept: redacted, one record of `webhook-received`. Pure."""

import base64
from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson

from contracts.envelope import Envelope, write_headers
from contracts.webhooks import WebhookProvider, WebhookReceived
from webhook_ingest.admission import Admitted
from webhook_ingest.store import Spooled

SOURCE = "webhook-ingest"


def raw_webhook(
    webhook_id: UUID,
    provider: WebhookProvider,
    admitted: Admitted,
    headers: dict[str, str],
    body: bytes,
    *,
    traceparent: str | None,
    received_at: datetime,
) -> Spooled:
    """`headers` and `body` are redacted already. What follows from the webhook is correlated by its id."""
    text, encoding = _as_text(body)
    instance = admitted.instance
    # The fields of WebhookReceived, without its checks: nothing here comes from outside unchecked, and pydantic would
    # escape the body, one long text full of quotes, slowly.
    received = {
        "provider": provider,
        "instance_id": instance.id if instance else None,
        "headers": headers,
        "body": text,
        "encoding": encoding,
        "received_at": received_at,
        "account_ids": admitted.account_ids,
    }
    envelope = Envelope(
        id=webhook_id,
        type="WebhookReceived",
        version=WebhookReceived.VERSION,
        source=SOURCE,
        subject="",
        time=received_at,
        account_id=instance.account_id if instance else None,
        correlation_id=str(webhook_id),
        traceparent=traceparent,
    )
    value = orjson.dumps(received, default=str, option=orjson.OPT_UTC_Z)  # default: asyncpg's own kind of UUID
    return Spooled(webhook_id, write_headers(envelope), value, received_at)


def body_of(webhook: WebhookReceived) -> bytes:
    return base64.b64decode(webhook.body) if webhook.encoding == "base64" else webhook.body.encode()


def _as_text(body: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
