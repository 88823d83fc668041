"""What a person wrote, shown in the conversation from the moment it is written, before any provider knows it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from contracts.conversations import AnswerWritten
from contracts.envelope import Envelope
from contracts.ids import answer_dispatch_id
from projections.folding import fold, in_order, read_id


class Answer(NamedTuple):
    account_id: UUID
    dispatch_id: UUID
    conversation_id: UUID
    instance_id: UUID
    contact_id: UUID
    written_by: UUID
    written_at: datetime
    content: str
    reply_to: str | None


def read_answer(envelope: Envelope, event: AnswerWritten) -> Answer | None:
    if envelope.account_id is None:
        return None
    return Answer(
        envelope.account_id,
        answer_dispatch_id(envelope.id),
        read_id(envelope.subject),
        event.instance_id,
        event.contact_id,
        event.by,
        envelope.time,
        event.content.model_dump_json(exclude_defaults=True),
        event.reply_to,
    )


def fold_answers(answers: Iterable[Answer]) -> list[Answer]:
    """One per dispatch: its id is derived from the event, so all descriptions are equal."""
    return in_order(fold(answers, lambda one, _: one))


INSERT: Final = """
INSERT INTO answer (account_id, dispatch_id, conversation_id, instance_id, contact_id, written_by, written_at, content,
    reply_to)
SELECT * FROM unnest($1::projections.given_answer[])
ON CONFLICT (account_id, dispatch_id) DO NOTHING
"""
