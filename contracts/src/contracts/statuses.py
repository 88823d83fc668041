"""What a provider reported about a message we sent (topic status-received, keyed by message id)."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from contracts.envelope import Event
from contracts.ids import Address

DeliveryStatus = Literal["sent", "delivered", "read", "played", "failed"]


class StatusReceived(Event):
    """`client_ref`: our own label given back. `at`: the provider's time, else the receive time.

    `failure`: name of the failure for `failed`; `code` the provider's error number or text.
    """

    instance_id: UUID
    provider_message_id: str
    status: DeliveryStatus
    at: AwareDatetime
    client_ref: str | None = None
    address: Address | None = None
    failure: str | None = None
    code: str | None = None
    detail: str = ""
    billable: bool | None = None
    category: str | None = None
