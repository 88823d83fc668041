"""campaign-api in the simulation: its deciders are real; around them the event store as a table and its consumers."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any
from uuid import UUID

from campaign_api.campaign import campaign as campaigns
from campaign_api.contact import contact as contacts
from campaign_api.event_store import Stream, record
from contracts import ids, topics
from contracts.campaigns import CampaignEvent, RecipientsAdded
from contracts.contacts import ContactSaved
from contracts.conversations import MessageReceived
from contracts.envelope import Event
from contracts.progress import CampaignDrained, GateClosed
from simulation.clock import Process, Steps
from simulation.drivers import AGAIN_S, consume, relay
from simulation.kafka import BrokerAway, Kafka, Record
from simulation.postgres import ConnectionLost, Database, Transaction
from simulation.town import ACCOUNT, TRACE, PlannedCampaign, Town

SCHEMA = "campaign"
STOP_WORDS = ("parar", "sair")
Decide = Callable[[Any], Sequence[Event]]


class Api:
    """`acknowledged` is told what a person sees: the campaign's state after each order."""

    def __init__(self, town: Town, database: Database, kafka: Kafka, flaws: frozenset[str]) -> None:
        self.town, self.database, self.kafka, self.flaws = town, database, kafka, flaws

    def boot(self, process: Process) -> list[Steps[None]]:
        database, kafka, flaws = self.database, self.kafka, self.flaws
        hears = partial(consume, process, database, kafka)
        return [
            relay(process, database, kafka, SCHEMA, flaws),
            hears("campaign-progress", [topics.CAMPAIGN_PROGRESS], self._hear_progress, flaws),
            hears("campaign-inbound", [topics.MESSAGE_RECEIVED], self._hear_people, flaws),
        ]

    def order(self, process: Process, what: str, number: int) -> Steps[bool]:
        """What a person asks for. False if the answer never came: nobody knows whether it happened."""
        campaign = next((one for one in self.town.campaigns if one.number == number), None)
        for _ in range(3):
            try:
                transaction = self.database.begin(process)
                if what == "opt_out":
                    yield from self._opt_out(transaction, _phone_key(number))
                elif campaign is not None:
                    yield from self._command(transaction, campaign, what)
                yield from transaction.commit()
                return True
            except campaigns.Refused:
                transaction.roll_back()
                return True
            except (ConnectionLost, BrokerAway):
                yield AGAIN_S
        return False

    def _command(self, transaction: Transaction, campaign: PlannedCampaign, what: str) -> Steps[None]:
        stream = _campaign_stream(campaign.id)
        decide = {
            "start": partial(campaigns.start, audience=_audience(campaign), by=None),
            "pause": partial(campaigns.pause, by=None),
            "resume": partial(campaigns.resume, by=None),
            "cancel": partial(campaigns.cancel, by=None),
            "retry": partial(campaigns.retry, by=None),
        }[what]
        if what == "start" and transaction.read("campaign.stream", campaign.id) is None:
            create = partial(campaigns.create, definition=campaign.definition, by=None)
            yield from self._decide(transaction, stream, campaigns.evolve, campaigns.INITIAL, create)
            for number, chunk in enumerate(campaign.chunks):
                added = RecipientsAdded(chunk=number, recipients=chunk)
                chunks = Stream(ACCOUNT, "audience", campaign.id, topics.CAMPAIGN_RECIPIENTS)
                transaction.append(SCHEMA, [record(chunks, number, added, self.database.loop.at(), None, TRACE)])
        yield from self._decide(transaction, stream, campaigns.evolve, campaigns.INITIAL, decide)

    def _decide(
        self, transaction: Transaction, stream: Stream, evolve: Any, initial: Any, decide: Decide
    ) -> Steps[None]:
        """As event_store.decide_in: a lost race is decided again; the unique version is the lock."""
        while True:
            past: tuple[Event, ...] = transaction.read("campaign.stream", stream.id) or ()
            events = tuple(decide(reduce(evolve, past, initial)))
            if not events:
                return
            yield from transaction.lock("campaign.stream", (stream.id, len(past) + 1))
            if len(transaction.read("campaign.stream", stream.id) or ()) != len(past):
                continue
            break
        now = self.database.loop.at()
        transaction.write("campaign.stream", stream.id, past + events)
        transaction.append(
            SCHEMA, [record(stream, len(past) + nth, event, now, None, TRACE) for nth, event in enumerate(events, 1)]
        )
        if stream.topic is topics.CAMPAIGNS:
            transaction.notes += [("campaign", stream.id, event) for event in events]

    def _opt_out(self, transaction: Transaction, key: str) -> Steps[None]:
        contact_id = ids.contact_id(ACCOUNT, key)
        stream = Stream(ACCOUNT, "contact", contact_id, topics.CONTACTS)
        decide: Decide = partial(contacts.opt_out, key=key, reason="manual")
        yield from self._decide(transaction, stream, contacts.evolve, contacts.INITIAL, decide)

    def _hear_progress(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        for one in batch:
            decide: Decide
            match one.event:
                case GateClosed(run_epoch=run_epoch):
                    decide = partial(campaigns.close_gate, run_epoch=run_epoch)
                case CampaignDrained(run_epoch=run_epoch, planned=planned):
                    decide = partial(campaigns.drain, run_epoch=run_epoch, planned=planned)
                case _:
                    continue
            stream = _campaign_stream(UUID(one.key))
            yield from self._decide(transaction, stream, campaigns.evolve, campaigns.INITIAL, decide)

    def _hear_people(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        for one in batch:
            message = one.event
            if not isinstance(message, MessageReceived) or message.direction != "in":
                continue
            key = ids.recipient_key(message.chat)
            stops = contacts.is_stop_word(message.text, STOP_WORDS)

            def decide(contact: contacts.Contact, key: str = key, message: Any = message, stops: bool = stops) -> Any:
                saved = [] if contact.saved else [ContactSaved(address=message.chat, source="message")]
                return saved + (contacts.opt_out(contact, key=key, reason="stop_word") if stops else [])

            stream = Stream(ACCOUNT, "contact", ids.contact_id(ACCOUNT, key), topics.CONTACTS)
            yield from self._decide(transaction, stream, contacts.evolve, contacts.INITIAL, decide)


def folded(database: Database, campaign_id: UUID) -> campaigns.Campaign:
    past: tuple[CampaignEvent, ...] = database.tables["campaign.stream"].get(campaign_id, ())
    return campaigns.folded(past)


def _campaign_stream(campaign_id: UUID) -> Stream:
    return Stream(ACCOUNT, "campaign", campaign_id, topics.CAMPAIGNS)


def _audience(campaign: PlannedCampaign) -> campaigns.Audience:
    return campaigns.Audience(len(campaign.chunks), len(campaign.recipients))


def _phone_key(person: int) -> str:
    return ids.phone_key(f"55119{40_000_000 + person}")
