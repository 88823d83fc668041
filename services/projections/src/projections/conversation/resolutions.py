"""Each time that a conversation was resolved, and by whom: the ground of the attendance figures."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from contracts.conversations import ConversationStateChanged
from contracts.envelope import Envelope, Event
from projections.folding import fold, in_order, read_id


class Resolution(NamedTuple):
    account_id: UUID
    event_id: UUID
    conversation_id: UUID
    resolved_by: UUID | None
    resolved_at: datetime


def read_resolution(envelope: Envelope, event: Event) -> Resolution | None:
    """None for any other event."""
    if envelope.account_id is None or not isinstance(event, ConversationStateChanged) or event.state != "resolved":
        return None
    return Resolution(envelope.account_id, envelope.id, read_id(envelope.subject), event.by, envelope.time)


def fold_resolutions(resolutions: Iterable[Resolution]) -> list[Resolution]:
    """An event happened once."""
    return in_order(fold(resolutions, lambda one, _: one))


INSERT: Final = """
INSERT INTO resolution (account_id, event_id, conversation_id, resolved_by, resolved_at)
SELECT * FROM unnest($1::projections.given_resolution[])
ON CONFLICT (account_id, event_id) DO NOTHING
"""
