"""The campaign as people see it: every lifecycle event moves only its own fields, by the stream's version."""

from typing import Any, Final
from uuid import UUID

from contracts import campaigns as events
from contracts.envelope import Envelope, Event
from projections.registers import Fact, Row, version_key

TABLE: Final = "campaign"
EMPTY: Final[Row] = {
    "name": "",
    "status": "draft",
    "owner_id": None,
    "definition": None,
    "scheduled_at": None,
    "started_at": None,
    "completed_at": None,
    "run_epoch": 0,
    "recipient_count": None,
    "chunk_count": None,
    "fail_reason": None,
    "fail_detail": None,
    "deleted": False,
    "created_by": None,
    "created_at": None,
    "updated_at": None,
    "keys": {},
}
# Started and Resumed clear what an earlier run left.
_RUNNING: Final = {"status": "running", "completed_at": None, "fail_reason": None, "fail_detail": None}


def read_fact(envelope: Envelope, event: Event) -> Fact | None:
    """What a lifecycle event says; None for any other event."""
    if envelope.account_id is None or not isinstance(event, events.CampaignEvent):
        return None
    time = envelope.time.isoformat()
    values: dict[str, Any] = {"run_epoch": event.run_epoch, "updated_at": time, **_moves(event, time)}
    firsts: dict[str, Any] = {}
    if isinstance(event, events.CampaignStarted):
        firsts = {"started_at": time}
    elif isinstance(event, events.CampaignCreated):
        firsts = {"created_at": time, "created_by": None if event.by is None else str(event.by)}
    return Fact(envelope.account_id, UUID(envelope.subject), version_key(envelope), values, firsts)


def _moves(event: events.CampaignEvent, time: str) -> dict[str, Any]:
    match event:
        case events.CampaignCreated():
            return {"status": "draft", **_defined(event.definition)}
        case events.CampaignEdited():
            return _defined(event.definition)
        case events.CampaignScheduled():
            return {"status": "scheduled", "scheduled_at": event.scheduled_at.isoformat()}
        case events.CampaignUnscheduled():
            return {"status": "draft", "scheduled_at": None}
        case events.CampaignStarted():
            counts = {"recipient_count": event.recipient_count, "chunk_count": event.chunk_count}
            return {**_RUNNING, **_defined(event.definition), **counts}
        case events.CampaignResumed():
            return dict(_RUNNING)
        case events.CampaignPausing():
            return {"status": "pausing"}
        case events.CampaignPaused():
            return {"status": "paused"}
        case events.CampaignCancelling():
            return {"status": "cancelling"}
        case events.CampaignCancelled():
            return {"status": "cancelled", "completed_at": time}
        case events.CampaignCompleted():
            return {"status": "completed", "completed_at": time}
        case events.CampaignFailed():
            return {
                "status": "failed",
                "completed_at": time,
                "fail_reason": event.reason,
                "fail_detail": event.detail,
            }
        case events.CampaignDeleted():
            return {"deleted": True}


def _defined(definition: events.Definition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "owner_id": None if definition.owner_id is None else str(definition.owner_id),
        "definition": definition.model_dump(mode="json"),
    }
