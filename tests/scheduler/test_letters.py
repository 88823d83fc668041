"""What is written as bytes is what the contract reads: messages of campaigns and answers of people."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.kafka import Encoded, TooLarge
from contracts import ids
from contracts.campaigns import Definition, Step
from contracts.codec import decode
from contracts.envelope import Envelope, read_headers
from contracts.ids import Address
from contracts.messages import Content, MessageQueued
from scheduler.lane.letters import Letters

AT = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"
STEPS = (
    Step(kind="text", content="Olá {{nome|amigo}} de {{cidade}}"),
    Step(kind="image", content="veja", media_url="https://example.com/a.png", file_name="a.png"),
    Step(kind="template", template_name="promo", template_language="pt_BR", template_parameters=("{{nome}}",)),
)
CONTENTS = (
    Content(kind="text", text='Olá "Zé" de Recife'),
    Content(kind="image", text="veja", media_url="https://example.com/a.png", file_name="a.png"),
    Content(
        kind="template",
        template_name="promo",
        template_language="pt_BR",
        template_components=({"type": "body", "parameters": [{"type": "text", "text": '"Zé"'}]},),
    ),
)


def released(**changes: Any) -> dict[str, Any]:
    known = {name: uuid4() for name in ("dispatch_id", "account_id", "campaign_id", "recipient_id", "contact_id")}
    return {
        **known, "instance_id": uuid4(), "step": 0, "attempt": 3, "release": 2, "run_epoch": 4, "released_at": AT,
        "send_before": AT + timedelta(seconds=30), "may_duplicate": True, "phone": "5511987654321", "name": '"Zé"',
        "custom_fields": '{"Cidade":"Recife"}', **changes,
    }  # fmt: skip


def read(record: Encoded) -> tuple[Envelope, MessageQueued]:
    envelope = read_headers(record.headers)
    event = decode(envelope.type, envelope.version, record.value)
    assert isinstance(event, MessageQueued)
    return envelope, event


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_campaigns_message_is_the_event_that_its_row_says(step: int) -> None:
    row = released(step=step)
    record = Letters().of_campaign(row, Definition(name="Natal", steps=STEPS), TRACE)
    envelope, event = read(record)
    same = ("dispatch_id", "attempt", "release", "campaign_id", "run_epoch", "recipient_id", "contact_id", "step")
    assert event == MessageQueued(
        **{name: row[name] for name in same},
        priority="campaign",
        address=Address(phone=row["phone"]),
        content=CONTENTS[step],
        send_before=row["send_before"],
        may_duplicate=True,
    )
    assert envelope == Envelope(
        id=ids.event_id("scheduler", str(row["dispatch_id"]), "queued:3:2"),
        type="MessageQueued",
        version=1,
        source="scheduler",
        subject=str(row["instance_id"]),
        time=AT,
        account_id=row["account_id"],
        traceparent=TRACE,
    )
    assert record.key == str(row["instance_id"]).encode()


def test_a_persons_answer_keeps_its_address_content_and_quote() -> None:
    address, content = Address(lid="123@lid"), Content(kind="text", text="Já vai")
    row = released(campaign_id=None, recipient_id=UUID(int=1), phone=None)
    answer = {
        "address": address.model_dump_json(), "content": content.model_dump_json(), "reply_to": "wamid.1",
        "traceparent": None,
    }  # fmt: skip
    envelope, event = read(Letters().of_person(row, answer))
    assert (event.address, event.content, event.reply_to, event.priority) == (address, content, "wamid.1", "person")
    assert (event.campaign_id, event.recipient_id) == (None, None)
    assert envelope.traceparent is not None


def test_messages_of_one_batch_share_nothing_that_is_their_own() -> None:
    letters, definition = Letters(), Definition(name="Natal", steps=STEPS)
    one, later, other = released(), released(), released()
    later["instance_id"], later["account_id"] = one["instance_id"], one["account_id"]
    for row in (one, later, other):
        envelope, event = read(letters.of_campaign(row, definition, TRACE))
        assert event.dispatch_id == row["dispatch_id"]
        assert (envelope.subject, envelope.account_id) == (str(row["instance_id"]), row["account_id"])
        assert envelope.id == ids.event_id("scheduler", str(row["dispatch_id"]), "queued:3:2")


def test_a_message_that_kafka_would_refuse_is_not_made() -> None:
    with pytest.raises(TooLarge):
        Letters().of_campaign(released(name="x" * 1_000_001), Definition(name="Natal", steps=STEPS), TRACE)
