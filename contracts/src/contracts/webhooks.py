"""The raw webhook as it came (topic webhook-received, no key): replayable with a better parser."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from contracts.envelope import Event
from contracts.ids import PersonalText

WebhookProvider = Literal["evolution", "meta", "zapi"]


class WebhookReceived(Event):
    """Secrets are redacted before it is written. `instance_id`: known where the path names it (not for Meta).

    `account_ids`: of whose numbers the signature may speak (Meta); None: of anybody's.
    `body`: the request's body; `encoding` base64 where it is not UTF-8. `headers`: chosen ones, lower case.
    """

    provider: WebhookProvider
    instance_id: UUID | None = None
    headers: dict[str, str] = {}
    body: PersonalText
    encoding: Literal["utf-8", "base64"] = "utf-8"
    received_at: AwareDatetime
    account_ids: tuple[UUID, ...] | None = None
