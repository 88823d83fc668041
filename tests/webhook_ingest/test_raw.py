"""What is written of a webhook is what its event reads."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from contracts.codec import encode
from contracts.webhooks import WebhookReceived
from providers.protocol import WebhookKeys
from webhook_ingest.admission import Admitted, KnownInstance
from webhook_ingest.consumers import read_kept
from webhook_ingest.raw import body_of, raw_webhook

ID, ACCOUNT, INSTANCE = UUID(int=1), UUID(int=2), UUID(int=3)
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
KNOWN = KnownInstance(INSTANCE, ACCOUNT, "evolution_web", "aura", None, None, WebhookKeys())


@pytest.mark.parametrize("admitted", [Admitted(KNOWN), Admitted(None), Admitted(None, (ACCOUNT,))])
@pytest.mark.parametrize("body", [b'{"text": "ol\xc3\xa1 \\"x\\""}', b"\xff\x00"])
def test_reads_as_it_was_written(admitted: Admitted, body: bytes) -> None:
    headers = {"user-agent": 'a "b" \xe9'}

    kept = raw_webhook(ID, "evolution", admitted, headers, body, traceparent=None, received_at=NOW)

    envelope, webhook = read_kept(kept.headers, kept.value)
    assert (envelope.id, envelope.correlation_id, envelope.time) == (ID, str(ID), NOW)
    assert body_of(webhook) == body
    assert (webhook.provider, webhook.headers, webhook.received_at) == ("evolution", headers, NOW)
    assert webhook.instance_id == (admitted.instance.id if admitted.instance else None)
    assert webhook.account_ids == admitted.account_ids
    # Written by hand: every field of the event, as its own model writes it.
    assert orjson.loads(kept.value) == orjson.loads(encode(webhook))
    assert set(orjson.loads(kept.value)) == set(WebhookReceived.model_fields)
