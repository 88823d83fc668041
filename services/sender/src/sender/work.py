"""A message on its way through this process, and the number it leaves from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from contracts.codec import decode
from contracts.ids import Address, attempt_label, recipient_key
from contracts.instances import InstanceConfigured
from contracts.messages import MessageQueued
from providers import protocol
from sender.lane.throttle import Rate
from sender.ledger.delivery import Candidate, GateKey

EVERYTHING: GateKey = ("everything", "")
Position = tuple[str, int, int]


@dataclass(slots=True, eq=False)
class Work:
    """One record of message-queued. `position`: topic, partition, offset; `value`: the record's own bytes.

    `retaken`: the commit of its intent ended unknown, see delivery.Candidate. `waits_since_s`: monotonic.
    """

    account_id: UUID
    instance_id: UUID
    message: MessageQueued
    value: bytes
    position: Position
    waits_since_s: float
    traceparent: str | None = None
    correlation_id: str | None = None
    retaken: bool = False
    recipient: str = ""
    gates: tuple[GateKey, ...] = ()
    send_before_s: float = 0.0

    def __post_init__(self) -> None:
        message = self.message
        self.recipient = recipient_key(message.address)
        self.gates = _gates(self.account_id, self.instance_id, message.campaign_id, message.content.template_name)
        self.send_before_s = message.send_before.timestamp()

    @property
    def from_person(self) -> bool:
        return self.message.priority == "person"

    def candidate(self) -> Candidate:
        message = self.message
        return Candidate(
            account_id=self.account_id,
            dispatch_id=message.dispatch_id,
            attempt=message.attempt,
            release=message.release,
            run_epoch=message.run_epoch,
            recipient=self.recipient,
            gates=self.gates,
            from_person=self.from_person,
            may_duplicate=message.may_duplicate,
            send_before_s=self.send_before_s,
            retaken=self.retaken,
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """A number as this process uses it. `labelled`: statuses come back with our label, so echoes are not needed.

    `quota_limit` None = no limit. `stopped`: why nothing may leave, as one word for the operator.
    `rests_until`: nothing may leave before. `chooses_ids`: the gateway may honour message ids of ours.
    """

    instance_id: UUID
    account_id: UUID
    config: InstanceConfigured
    account: protocol.Account
    provider: protocol.Provider
    rate: Rate
    pair_rate: Rate
    in_flight_max: int
    quota_scope: str
    quota_limit: int | None
    labelled: bool
    stopped: str | None
    revision: int
    rests_until: datetime | None = None
    chooses_ids: bool = False

    def rest_s(self, now: datetime) -> float:
        return 0.0 if self.rests_until is None else max(0.0, (self.rests_until - now).total_seconds())


@lru_cache(maxsize=4096)  # the messages of a number and a campaign share them: half of what a Work costs
def _gates(
    account_id: UUID, instance_id: UUID, campaign_id: UUID | None, template_name: str | None
) -> tuple[GateKey, ...]:
    gates: list[GateKey] = [EVERYTHING, ("account", str(account_id)), ("instance", str(instance_id))]
    if campaign_id is not None:
        gates.append(("campaign", str(campaign_id)))
    if template_name:
        gates.append(template_gate(account_id, template_name))
    return tuple(gates)


def template_gate(account_id: UUID, name: str) -> GateKey:
    return ("template", f"{account_id}:{name}")


def read_queued(value: bytes) -> MessageQueued:
    """From the record's own bytes, as the ledger keeps them."""
    event = decode("MessageQueued", MessageQueued.VERSION, value)
    assert isinstance(event, MessageQueued)
    return event


def outbound(message: MessageQueued) -> protocol.OutboundMessage:
    """The message in the providers' words."""
    content = message.content
    return protocol.OutboundMessage(
        recipient=to_provider(message.address),
        content=protocol.Content(
            kind=content.kind,
            text=content.text,
            media_url=content.media_url,
            filename=content.file_name,
            mime_type=content.mime_type,
            template_name=content.template_name,
            template_language=content.template_language,
            template_components=content.template_components,
        ),
        client_ref=attempt_label(message.dispatch_id, message.attempt),
        reply_to=message.reply_to,
    )


def own_message_id(message: MessageQueued, instance: Instance) -> str | None:
    """Where the provider lets us choose: what an uncertain send is recognised by."""
    return instance.provider.own_message_id(outbound(message), instance.account) if instance.chooses_ids else None


def to_provider(address: Address) -> protocol.Address:
    return protocol.Address(phone=address.phone, lid=address.lid, bsuid=address.bsuid, group=address.group)


def from_provider(address: protocol.Address | None) -> Address | None:
    if address is None or not (address.phone or address.lid or address.bsuid or address.group):
        return None
    return Address(phone=address.phone, lid=address.lid, bsuid=address.bsuid, group=address.group)


@dataclass(slots=True)
class Group:
    """Messages of one lane that ask for their intents together. `pairs_complete`: the lane remembers every
    recipient's limiter; else those missing are rebuilt from the ledger."""

    instance: Instance
    epoch: int
    works: list[Work]
    times_out_s: list[float]
    pairs: Mapping[str, float] = field(default_factory=dict)
    pairs_complete: bool = True
