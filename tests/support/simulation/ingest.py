"""webhook-ingest in the simulation: verification aside, what the providers and `read_reports` make of real bodies."""

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from chassis.kafka import Outgoing, outgoing
from contracts import ids, topics
from contracts.webhooks import WebhookReceived
from providers.events import WebhookEvent
from providers.protocol import WebhookKeys
from providers.registry import PROVIDERS
from sender.work import Instance
from simulation.clock import Loop, Process, Steps
from simulation.drivers import AGAIN_S
from simulation.kafka import BrokerAway, Kafka, Place, Record, Replaced
from simulation.town import ACCOUNT, TRACE, Town
from webhook_ingest.accounts import AccountEvent
from webhook_ingest.admission import KnownInstance
from webhook_ingest.raw import SOURCE, body_of
from webhook_ingest.reports import read_reports


class Ingest:
    def __init__(self, town: Town, kafka: Kafka, loop: Loop, flaws: frozenset[str]) -> None:
        self.kafka, self.loop, self.flaws = kafka, loop, flaws
        self.known = {
            instance_id: KnownInstance(
                instance_id, ACCOUNT, instance.config.provider, instance.config.gateway_instance,
                instance.config.phone_number_id, instance.config.phone_number, WebhookKeys(),
            )
            for instance_id, instance in town.instances.items()
        }  # fmt: skip
        self.came = 0

    def boot(self, process: Process) -> list[Steps[None]]:
        return [self._translate(process)]

    def take(self, process: Process, instance: Instance, body: bytes) -> Steps[bool]:
        """The door: 200 only once the raw webhook is in Kafka. False: not taken, to be brought again."""
        self.came += 1
        now = self.loop.at()
        raw = WebhookReceived(
            provider="meta" if instance.labelled else "evolution",
            instance_id=None if instance.labelled else instance.instance_id,
            body=body.decode(),
            received_at=now,
        )
        record = outgoing(
            topics.WEBHOOK_RECEIVED, None, raw, source=SOURCE, account_id=None, time=now,
            event_id=UUID(int=self.came), traceparent=TRACE,
        )  # fmt: skip
        if "door_answers_at_once" in self.flaws and self.loop.rng.random() < 0.2:
            process.spawn(self._append_later(process, record))
            return True
        try:
            yield from self.kafka.publish(process, [record])
        except BrokerAway:
            return False
        return True

    def _append_later(self, process: Process, record: Outgoing) -> Steps[None]:
        yield 0.05
        with suppress(BrokerAway):
            yield from self.kafka.publish(process, [record])

    def _translate(self, process: Process) -> Steps[None]:
        """At least once: its offsets are in Kafka, committed when the events are acknowledged."""
        member = self.kafka.join("webhook-translator", process, [topics.WEBHOOK_RECEIVED])
        positions: dict[Place, int] = {}
        while True:
            try:
                if member.outdated:
                    positions = {place: member.group.committed[place] for place in member.assigned()}
                batch = [one for place in sorted(positions) for one in self.kafka.read(place, positions[place], 4)]
                if not batch:
                    yield member.wake
                    continue
                offsets = {(one.topic, one.partition): one.offset + 1 for one in batch}
                if "committed_before_translated" in self.flaws:
                    member.commit(offsets)
                yield from self.kafka.publish(process, [event for one in batch for event in self.read(one)])
                member.commit(offsets)
                positions |= offsets
            except BrokerAway:
                yield AGAIN_S
            except Replaced:
                continue

    def read(self, record: Record) -> list[Outgoing]:
        webhook = record.event
        assert isinstance(webhook, WebhookReceived)
        known = self.known[webhook.instance_id] if webhook.instance_id else None
        provider = PROVIDERS[known.provider if known else "meta_cloud"]
        events, at = provider.read_webhook(body_of(webhook)), webhook.received_at
        reports, _ = read_reports(events, self._finder(known), at, self._find_numbers)
        return [
            outgoing(
                report.topic, report.key, report.event, source=SOURCE, account_id=report.instance.account_id,
                time=record.envelope.time, event_id=ids.event_id(SOURCE, str(report.instance.id), report.fact),
                causation_id=record.envelope.id, traceparent=TRACE,
            )
            for report in reports
        ]  # fmt: skip

    def _finder(self, known: KnownInstance | None) -> Callable[[WebhookEvent], KnownInstance | None]:
        def find(event: WebhookEvent) -> KnownInstance | None:
            if known is not None:
                return known
            return next((one for one in self.known.values() if one.phone_number_id == event.channel), None)

        return find

    def _find_numbers(self, event: AccountEvent) -> list[KnownInstance]:
        phone = getattr(event, "phone", None)
        return [one for one in self.known.values() if phone is not None and one.has_number(phone)]
