"""The conversation as a team sees it: who has it, whether it is resolved. No I/O, no clock."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, assert_never
from uuid import UUID

from contracts.conversations import (
    AnswerWritten,
    ConversationAssigned,
    ConversationEvent,
    ConversationRead,
    ConversationStateChanged,
)
from contracts.instances import ProviderKind

State = Literal["open", "pending", "resolved"]
SERVICE_WINDOW = timedelta(hours=24)
WINDOWED: frozenset[ProviderKind] = frozenset({"meta_cloud", "evolution_cloud"})


class WindowClosed(Exception):
    """More than 24 hours have passed since the person last wrote: WhatsApp takes only an approved template now."""


@dataclass(frozen=True, slots=True)
class Conversation:
    assignee: UUID | None = None
    state: State = "open"


INITIAL = Conversation()


def evolve(conversation: Conversation, event: ConversationEvent) -> Conversation:
    match event:
        case ConversationAssigned():
            return replace(conversation, assignee=event.assignee)
        case ConversationStateChanged():
            return replace(conversation, state=event.state)
        case AnswerWritten() | ConversationRead():
            return conversation
        case _:
            assert_never(event)


def answer(
    conversation: Conversation,
    *,
    written: AnswerWritten,
    provider: ProviderKind,
    last_inbound_at: datetime | None,
    now: datetime,
) -> list[ConversationEvent]:
    """Whoever answers a resolved conversation opens it again. Raises WindowClosed."""
    closed = last_inbound_at is None or now - last_inbound_at >= SERVICE_WINDOW
    if provider in WINDOWED and written.content.kind != "template" and closed:
        raise WindowClosed
    reopened: list[ConversationEvent] = []
    if conversation.state == "resolved":
        reopened = [ConversationStateChanged(state="open", by=written.by)]
    return [*reopened, written]


def assign(conversation: Conversation, *, assignee: UUID | None, by: UUID) -> list[ConversationEvent]:
    return [] if conversation.assignee == assignee else [ConversationAssigned(assignee=assignee, by=by)]


def move(conversation: Conversation, *, state: State, by: UUID) -> list[ConversationEvent]:
    return [] if conversation.state == state else [ConversationStateChanged(state=state, by=by)]
