"""Every topic in one place: key, events, producers, consumers, partitions, retention. Names are written only here."""

from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from contracts import campaigns, changes, contacts, conversations, directory, instances, messages, operations, progress
from contracts.envelope import Event
from contracts.statuses import StatusReceived
from contracts.webhooks import WebhookReceived

CAMPAIGN_API = "campaign-api"
SCHEDULER = "scheduler"
SENDER = "sender"
WEBHOOK_INGEST = "webhook-ingest"
PROJECTIONS = "projections"


@dataclass(frozen=True, slots=True)
class Topic:
    """`partitions` is the production count (a setting caps it on small machines). `retention` None = for ever."""

    name: str
    key: str
    events: tuple[type[Event], ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 12
    retention: timedelta | None = None
    compacted: bool = False


CAMPAIGNS = Topic(
    "campaigns",
    "campaign id",
    get_args(campaigns.CampaignEvent),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, SENDER, PROJECTIONS),
)
CAMPAIGN_RECIPIENTS = Topic(
    "campaign-recipients",
    "campaign id",
    (campaigns.RecipientsAdded,),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, PROJECTIONS),
)
CAMPAIGN_PROGRESS = Topic(
    "campaign-progress",
    "campaign id (for dispatches without a campaign: the conversation id)",
    get_args(progress.ProgressEvent),
    producers=(SCHEDULER, SENDER),
    consumers=(CAMPAIGN_API, PROJECTIONS),
)
MESSAGE_QUEUED = Topic(
    "message-queued",
    "instance id",
    (messages.MessageQueued,),
    producers=(SCHEDULER,),
    consumers=(SENDER,),
    partitions=64,
    retention=timedelta(days=2),
)
MESSAGE_SENT = Topic(
    "message-sent",
    "dispatch id",
    get_args(messages.MessageEvent),
    producers=(SENDER,),
    consumers=(SCHEDULER, PROJECTIONS),
)
WEBHOOK_RECEIVED = Topic(
    "webhook-received",
    "none",
    (WebhookReceived,),
    producers=(WEBHOOK_INGEST,),
    consumers=(WEBHOOK_INGEST,),
    retention=timedelta(days=30),
)
STATUS_RECEIVED = Topic(
    "status-received",
    "message id",
    (StatusReceived,),
    producers=(WEBHOOK_INGEST,),
    consumers=(SENDER, PROJECTIONS),
)
MESSAGE_RECEIVED = Topic(
    "message-received",
    "chat id: uuid5(instance, chat as the provider names it, Brazilian numbers by recipient key)",
    get_args(conversations.InboundEvent),
    producers=(WEBHOOK_INGEST,),
    consumers=(CAMPAIGN_API, SCHEDULER, SENDER, PROJECTIONS),
)
INSTANCES = Topic(
    "instances",
    "instance id",
    (instances.InstanceConfigured,),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, SENDER, WEBHOOK_INGEST, PROJECTIONS),
    partitions=6,
    compacted=True,
)
INSTANCE_HEALTH = Topic(
    "instance-health",
    "instance id",
    get_args(instances.InstanceHealthEvent),
    producers=(SENDER, WEBHOOK_INGEST),
    consumers=(CAMPAIGN_API, SCHEDULER, SENDER, PROJECTIONS),
    partitions=6,
)
ALLOCATIONS = Topic(
    "allocations",
    "contact id (for those that a page of a plan binds: the instance id)",
    get_args(contacts.AllocationEvent),
    producers=(SCHEDULER,),
    consumers=(PROJECTIONS,),
)
CONTACTS = Topic(
    "contacts",
    "contact id",
    get_args(contacts.ContactEvent),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, SENDER, PROJECTIONS),
)
CONVERSATIONS = Topic(
    "conversations",
    "conversation id",
    get_args(conversations.ConversationEvent),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, PROJECTIONS),
)
DIRECTORY = Topic(
    "directory",
    "id of the account, user or product",
    get_args(directory.DirectoryEvent),
    producers=(CAMPAIGN_API,),
    consumers=(PROJECTIONS,),
    partitions=3,
)
OPERATIONS = Topic(
    "operations",
    "account id",
    get_args(operations.OperationEvent),
    producers=(CAMPAIGN_API,),
    consumers=(SCHEDULER, SENDER, WEBHOOK_INGEST),
    partitions=3,
)
CHANGES = Topic(
    "changes",
    "account id",
    (changes.ViewChanged,),
    producers=(PROJECTIONS,),
    consumers=(CAMPAIGN_API,),
    partitions=6,
    retention=timedelta(hours=6),
)
PARKED = Topic(
    "parked",
    "as the source record",
    (),
    producers=(CAMPAIGN_API, SCHEDULER, SENDER, WEBHOOK_INGEST, PROJECTIONS),
    consumers=(),
    partitions=3,
)

ALL: tuple[Topic, ...] = (
    CAMPAIGNS,
    CAMPAIGN_RECIPIENTS,
    CAMPAIGN_PROGRESS,
    MESSAGE_QUEUED,
    MESSAGE_SENT,
    WEBHOOK_RECEIVED,
    STATUS_RECEIVED,
    MESSAGE_RECEIVED,
    INSTANCES,
    INSTANCE_HEALTH,
    ALLOCATIONS,
    CONTACTS,
    CONVERSATIONS,
    DIRECTORY,
    OPERATIONS,
    CHANGES,
    PARKED,
)
EVENT_TYPES: dict[str, type[Event]] = {event.__name__: event for topic in ALL for event in topic.events}


def produced_by(service: str) -> tuple[Topic, ...]:
    return tuple(topic for topic in ALL if service in topic.producers)
