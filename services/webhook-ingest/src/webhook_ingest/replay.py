"""Translates raw webhooks again, from a time on: for a better parser. Derived ids make it harmless for readers."""

from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.database import Database
from chassis.kafka import Producer
from chassis.secrets import SecretBox
from contracts import topics
from webhook_ingest.consumers import Translator
from webhook_ingest.directory import Directory
from webhook_ingest.settings import Settings


async def replay(settings: Settings, since: datetime) -> int:
    """Reads what was there when it began; returns the number of events published."""
    database = Database.connect(settings.postgres, schema="webhook_ingest", application_name="webhook-ingest-replay")
    directory = Directory(database, SecretBox(settings.secrets))
    await directory.refresh()
    producer = Producer(settings.kafka, client_id="webhook-ingest-replay")
    translator = Translator(directory, producer, batch_max=settings.translator_batch_max)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    try:
        name = topics.WEBHOOK_RECEIVED.name
        partitions = [TopicPartition(name, number) for number in await partitions_of(consumer, name)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.offsets_for_times({tp: int(since.timestamp() * 1000) for tp in partitions})
        for partition in partitions:
            start = starts.get(partition)
            consumer.seek(partition, start.offset if start else ends[partition])
        published = 0
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            fetched = await consumer.getmany(timeout_ms=500, max_records=settings.translator_batch_max)
            records = [record for batch in fetched.values() for record in batch]
            published += await translator.translate(records)
        return published
    finally:
        await consumer.stop()
        await producer.stop()
        await database.close()


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """Raises LookupError if the topic does not exist yet."""
    await consumer._client.force_metadata_update()
    found: set[int] | None = consumer.partitions_for_topic(topic)
    if not found:
        raise LookupError(f"topic {topic} does not exist: run `python -m webhook_ingest migrate` first")
    return found
