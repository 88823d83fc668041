"""Small notices for live screens (topic changes, keyed by account id; short retention)."""

from typing import Any, Literal
from uuid import UUID

from contracts.envelope import Event


class ViewChanged(Event):
    """A read model's row changed; `summary` holds what a live screen shows at once (no personal data)."""

    view: Literal["campaign", "conversation", "message", "instance", "contact"]
    id: UUID
    summary: dict[str, Any] = {}
