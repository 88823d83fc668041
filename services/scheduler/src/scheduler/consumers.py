"""What the scheduler listens to: one table of subscriptions, each with the function that applies a batch.

Every effect is in PostgreSQL together with its offsets: at least once from Kafka, effect once here. The groups are
apart so that a flood of recipients or inbound messages never delays a pause, and none delays an outcome.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.inbox import Subscription
from chassis.kafka import Received
from contracts import topics
from contracts.campaigns import CampaignEvent, RecipientsAdded
from contracts.contacts import ContactAliasLearned, ContactErased, ContactOptedIn, ContactOptedOut
from contracts.conversations import AnswerWritten, MessageReceived
from contracts.instances import InstanceConfigured, InstanceHealthEvent
from contracts.messages import MessageEvent
from contracts.operations import OperationEvent
from scheduler.campaign.campaigns import Campaigns
from scheduler.campaign.runs import Definitions
from scheduler.dispatch.outcomes import Outcomes
from scheduler.instances import Instances
from scheduler.lane.explanations import Explanations
from scheduler.order import people
from scheduler.order.answers import Answers
from scheduler.order.operations import Operations
from scheduler.plan.previews import Previews
from scheduler.plan.recipients import add_recipients
from scheduler.settings import PacingSettings
from scheduler.signals import Signals, Stage

Handle = Callable[[AsyncConnection, Sequence[Received]], Awaitable[None]]

# A lane is refilled long before its credit ends, so outcomes may gather: each batch has its price, whatever its size.
OUTCOMES = Subscription("scheduler-outcomes", (topics.MESSAGE_SENT,), get_args(MessageEvent), linger_ms=100)
CAMPAIGNS = Subscription("scheduler-campaigns", (topics.CAMPAIGNS,), get_args(CampaignEvent), linger_ms=5)
# A chunk has up to 500 recipients: ten of them are one transaction.
RECIPIENTS = Subscription(
    "scheduler-recipients", (topics.CAMPAIGN_RECIPIENTS,), (RecipientsAdded,), batch_max=10, linger_ms=5
)
CONVERSATIONS = Subscription(
    "scheduler-conversations",
    (topics.CONVERSATIONS, topics.MESSAGE_RECEIVED),
    (AnswerWritten, MessageReceived),
    linger_ms=5,
)
ORDERS = Subscription(
    "scheduler-orders",
    (topics.INSTANCES, topics.INSTANCE_HEALTH, topics.CONTACTS, topics.OPERATIONS),
    (
        InstanceConfigured,
        *get_args(InstanceHealthEvent),
        ContactOptedOut,
        ContactOptedIn,
        ContactErased,
        ContactAliasLearned,
        *get_args(OperationEvent),
    ),
    linger_ms=5,
)


@dataclass(frozen=True, slots=True)
class Consumer:
    """`stage.tell` runs after each commit."""

    subscription: Subscription
    handle: Handle
    stage: Stage


class Consumers:
    def __init__(
        self,
        definitions: Definitions,
        signals: Signals,
        pacing: PacingSettings,
        answers: Answers,
        explanations: Explanations,
        previews: Previews,
    ) -> None:
        of_outcomes, of_answers = Stage(signals), Stage(signals)
        of_campaigns, of_orders = Stage(signals, plans=True), Stage(signals, plans=True)
        self._definitions = definitions
        self._orders = of_orders
        self._answers = answers
        self._answered = of_answers
        self._instances = Instances(of_orders)
        self._operations = Operations(definitions, of_orders, explanations, previews)
        self.table: tuple[Consumer, ...] = (
            Consumer(OUTCOMES, Outcomes(definitions, pacing, of_outcomes).handle, of_outcomes),
            Consumer(CAMPAIGNS, Campaigns(of_campaigns).handle, of_campaigns),
            Consumer(RECIPIENTS, add_recipients, Stage(signals, plans=True)),
            Consumer(CONVERSATIONS, self.handle_conversations, of_answers),
            Consumer(ORDERS, self.handle_orders, of_orders),
        )

    async def handle_conversations(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        await self._answers.handle(connection, batch)
        if any(isinstance(one.event, AnswerWritten) for one in batch):
            self._answered.answers_wait()

    async def handle_orders(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        """Four topics in one group: each part locks in the order of lanes.py."""
        of_topic: dict[str, list[Received]] = {}
        for one in batch:
            of_topic.setdefault(one.topic, []).append(one)
        about_instances = [
            *of_topic.get(topics.INSTANCES.name, ()),
            *of_topic.get(topics.INSTANCE_HEALTH.name, ()),
        ]
        if about_instances:
            await self._instances.handle(connection, about_instances)
        if contacts := of_topic.get(topics.CONTACTS.name):
            await people.handle(connection, contacts, self._definitions, self._orders)
        if operations := of_topic.get(topics.OPERATIONS.name):
            await self._operations.handle(connection, operations)
