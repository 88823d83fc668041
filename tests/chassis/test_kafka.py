"""chassis.kafka: records in and out."""

import asyncio
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from uuid import uuid4

import confluent_kafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from chassis.kafka import (
    Outgoing,
    Producer,
    TooLarge,
    Unreadable,
    encoded,
    ensure_topics,
    outgoing,
    passes,
    received,
)
from chassis.settings import KafkaSettings
from chassis.telemetry import span
from chassis_parts import NOON, fresh_topic, hold, kafka_settings, operation, started
from contracts.operations import HoldSet
from contracts.topics import CAMPAIGNS, OPERATIONS

HOLD = HoldSet(scope="account", held=True, version=1)


def record(sent: Outgoing, **changes: object) -> SimpleNamespace:
    """As aiokafka hands it over."""
    ready = encoded(sent)
    given = {
        "topic": ready.topic,
        "partition": 0,
        "offset": 5,
        "key": ready.key,
        "value": ready.value,
        "headers": tuple(ready.headers),
        "timestamp": 1,
    }
    return SimpleNamespace(**{**given, **changes})


def test_a_record_comes_back_as_it_was_sent() -> None:
    sent = hold(OPERATIONS, "k", 1)
    read = received(record(sent))
    assert read is not None
    assert (read.key, read.event, read.envelope, read.offset) == ("k", sent.event, sent.envelope, 5)


def test_a_known_type_that_is_not_handled_is_not_even_decoded() -> None:
    assert received(record(hold(OPERATIONS, "k", 1), value=b"broken"), frozenset({"Other"})) is None


@pytest.mark.parametrize("changes", [{"value": b"{}"}, {"value": None}, {"headers": ()}, {"key": b"\xff"}])
def test_what_cannot_be_read_is_told(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        received(record(hold(OPERATIONS, "k", 1), **changes), frozenset({"HoldSet"}))


def test_an_event_of_another_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="HoldSet is not an event of topic campaigns"):
        outgoing(CAMPAIGNS, "k", HOLD, source="tests", account_id=None, time=NOON)


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        outgoing(OPERATIONS, "k", HOLD, source="tests", account_id=None, time=datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_id_of_a_stream_event_is_derived_from_its_version() -> None:
    def id_of(version: int | None, key: str = "k") -> object:
        made = outgoing(OPERATIONS, key, HOLD, source="tests", account_id=None, time=NOON, stream_version=version)
        return made.envelope.id

    assert id_of(1) == id_of(1)
    assert len({id_of(1), id_of(2), id_of(1, "other"), id_of(None), id_of(None)}) == 5


def test_the_current_span_goes_along() -> None:
    with span("x") as traceparent:
        made = outgoing(OPERATIONS, "k", HOLD, source="tests", account_id=uuid4(), time=NOON)
    assert made.envelope.traceparent == traceparent


def test_a_record_that_is_too_large_is_told_before_kafka_refuses_it() -> None:
    with pytest.raises(TooLarge):
        encoded(operation(OPERATIONS, "k", "x" * 1_000_001))


@pytest.mark.kafka
class TestOnKafka:
    async def test_topics_get_their_configuration_and_stay_as_they_are(self, kafka_bootstrap: str) -> None:
        settings = kafka_settings(kafka_bootstrap)
        topic = await fresh_topic(settings)
        await ensure_topics(KafkaSettings(bootstrap=kafka_bootstrap, partitions_max=2), [replace(topic, partitions=2)])
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        await admin.start()
        (described,) = await admin.describe_topics([topic.name])
        await admin.close()
        assert len(described["partitions"]) == 3

    async def test_many_are_published_at_once(self, kafka_bootstrap: str) -> None:
        settings = kafka_settings(kafka_bootstrap)
        topic = await fresh_topic(settings)
        async with started(settings) as producer:
            await producer.publish([hold(topic, str(n % 7), n) for n in range(5000)])

    async def test_large_batches_meet_the_bound_and_go_through(self, kafka_bootstrap: str) -> None:
        settings = kafka_settings(kafka_bootstrap)
        topic = await fresh_topic(settings)
        async with started(settings) as producer:
            await producer.publish([operation(topic, "k", "x" * 500_000) for _ in range(20)])

    async def test_a_cancelled_publish_leaves_the_producer_usable(self, kafka_bootstrap: str) -> None:
        settings = kafka_settings(kafka_bootstrap)
        topic = await fresh_topic(settings)
        async with started(settings) as producer:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await producer.publish([hold(topic, "k", n) for n in range(2000)])
            await producer.publish([hold(topic, "k", 1)])

    async def test_a_producer_that_died_is_replaced_by_the_next_publish(self, kafka_bootstrap: str) -> None:
        class Dead:
            def produce(self, *_: object, **__: object) -> None:
                raise KafkaException(confluent_kafka.KafkaError(-150, "fenced", True))

            def poll(self, _: float) -> None: ...

            def __len__(self) -> int:
                return 0

        settings = kafka_settings(kafka_bootstrap)
        topic = await fresh_topic(settings)
        async with started(settings) as producer:
            await producer.publish([hold(topic, "k", 1)])
            producer._client = Dead()
            with pytest.raises(KafkaError, match="fenced"):
                await producer.publish([hold(topic, "k", 2)])
            await producer.publish([hold(topic, "k", 3)])

    async def test_no_broker_is_an_outage(self) -> None:
        producer = Producer(KafkaSettings(bootstrap="127.0.0.1:1"))
        with pytest.raises(Exception) as away:
            await producer.start()
        assert passes(away.value)
