"""MessageQueued of what was released, as the bytes of the event: written without building an object for each message,
because there are as many as there are messages. The tests read them back through contracts.
"""

from datetime import datetime
from uuid import UUID

import orjson

from chassis.kafka import RECORD_BYTES_MAX, Encoded, TooLarge
from chassis.telemetry import current_traceparent
from contracts import ids
from contracts.campaigns import Definition
from contracts.envelope import Envelope, Headers, write_headers
from contracts.messages import MessageQueued
from contracts.topics import MESSAGE_QUEUED, SCHEDULER
from scheduler.plan.rendering import Person, fill_in
from scheduler.rows import Row

_NO_ID = UUID(int=0)


class Letters:
    """Of one batch: most of an envelope is the same for what one release took from one lane."""

    def __init__(self) -> None:
        self._shared: dict[tuple[UUID, UUID, datetime], tuple[bytes, Headers]] = {}

    def of_campaign(self, row: Row, definition: Definition, traceparent: str | None) -> Encoded:
        """`row`: a released dispatch with its recipient. Raises TooLarge, as the next."""
        custom, phone = row["custom_fields"], row["phone"]
        known = Person(phone, row["name"], orjson.loads(custom) if custom != "{}" else {})
        content = fill_in(definition.steps[row["step"]], known)
        return self._write(
            row, {"phone": phone}, content, str(row["campaign_id"]), str(row["recipient_id"]), traceparent
        )

    def of_person(self, row: Row, answer: Row) -> Encoded:
        """`answer`: the stored answer, rendered already."""
        address, content = orjson.Fragment(answer["address"]), orjson.Fragment(answer["content"])
        return self._write(row, address, content, None, None, answer["traceparent"], answer["reply_to"])

    def _write(
        self,
        row: Row,
        address: object,
        content: object,
        campaign_id: str | None,
        recipient_id: str | None,
        traceparent: str | None,
        reply_to: str | None = None,
    ) -> Encoded:
        dispatch_id, attempt, release = str(row["dispatch_id"]), row["attempt"], row["release"]
        value = orjson.dumps(
            {
                "dispatch_id": dispatch_id,
                "attempt": attempt,
                "release": release,
                "campaign_id": campaign_id,
                "run_epoch": row["run_epoch"],
                "recipient_id": recipient_id,
                "contact_id": str(row["contact_id"]),
                "step": row["step"],
                "priority": "person" if campaign_id is None else "campaign",
                "address": address,
                "content": content,
                "send_before": row["send_before"],
                "may_duplicate": row["may_duplicate"],
                "reply_to": reply_to,
            }
        )
        if len(value) > RECORD_BYTES_MAX:
            raise TooLarge(f"MessageQueued of {len(value)} bytes")
        key, shared = self._of_lane(row)
        event_id = ids.event_id(SCHEDULER, dispatch_id, f"queued:{attempt}:{release}")
        own = [("ce_id", str(event_id).encode()), ("traceparent", (traceparent or current_traceparent()).encode())]
        return Encoded(MESSAGE_QUEUED.name, key, value, shared + own)

    def _of_lane(self, row: Row) -> tuple[bytes, Headers]:
        """The record's key and the headers that say nothing of the message itself."""
        instance_id, account_id, released_at = row["instance_id"], row["account_id"], row["released_at"]
        if (known := self._shared.get((instance_id, account_id, released_at))) is None:
            key = str(instance_id)
            envelope = Envelope(
                id=_NO_ID,
                type=MessageQueued.__name__,
                version=MessageQueued.VERSION,
                source=SCHEDULER,
                subject=key,
                time=released_at,
                account_id=account_id,
            )
            headers = [(name, value) for name, value in write_headers(envelope) if name != "ce_id"]
            known = self._shared[instance_id, account_id, released_at] = (key.encode(), headers)
        return known
