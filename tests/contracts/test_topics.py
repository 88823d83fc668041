"""The table of topics makes sense, and what is personal in events is known."""

from collections import Counter
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from contracts import topics
from contracts.campaigns import RecipientsAdded
from contracts.envelope import Event
from contracts.ids import personal_fields
from contracts.messages import MessageQueued
from contracts.topics import ALL, EVENT_TYPES, PARKED, Topic

SERVICES = {topics.CAMPAIGN_API, topics.SCHEDULER, topics.SENDER, topics.WEBHOOK_INGEST, topics.PROJECTIONS}
each_topic = pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)


def test_every_topic_is_in_the_table_once() -> None:
    constants = [value for value in vars(topics).values() if isinstance(value, Topic)]
    assert sorted(topic.name for topic in ALL) == sorted(topic.name for topic in constants)
    assert len({topic.name for topic in ALL}) == len(ALL)


def test_every_event_is_in_exactly_one_topic() -> None:
    counted = Counter(event for topic in ALL for event in topic.events)
    assert [event for event, count in counted.items() if count != 1] == []


def test_no_two_events_share_a_name() -> None:
    assert len(EVENT_TYPES) == sum(len(topic.events) for topic in ALL)


def test_every_event_family_of_the_contracts_is_published_somewhere() -> None:
    inner = {event.__name__ for event in _subclasses(Event) if not event.__subclasses__()}
    ours = {name for name in inner if _is_of_contracts(name)}
    assert ours == set(EVENT_TYPES)


@each_topic
def test_a_topic_has_partitions_producers_and_known_services(topic: Topic) -> None:
    assert topic.partitions > 0
    assert topic.key
    assert topic.producers
    assert topic.consumers or topic is PARKED
    assert set(topic.producers) | set(topic.consumers) <= SERVICES
    assert topic.events or topic is PARKED


@each_topic
def test_what_projections_read_is_kept_for_ever(topic: Topic) -> None:
    """A rebuild reads it all again."""
    if topics.PROJECTIONS in topic.consumers:
        assert topic.retention is None
        assert not topic.compacted or topic is topics.INSTANCES


@each_topic
def test_a_compacted_topic_has_a_key_and_one_event_that_tells_everything(topic: Topic) -> None:
    if topic.compacted:
        assert topic.key != "none"
        assert len(topic.events) == 1


def test_produced_by_names_the_topics_of_a_service() -> None:
    for service in SERVICES:
        assert PARKED in topics.produced_by(service)
    assert topics.MESSAGE_QUEUED in topics.produced_by(topics.SCHEDULER)
    assert topics.MESSAGE_QUEUED not in topics.produced_by(topics.SENDER)


def test_only_campaign_api_writes_campaign_streams() -> None:
    assert topics.CAMPAIGNS.producers == (topics.CAMPAIGN_API,)


def test_personal_fields_are_found_through_nested_models_lists_and_mappings() -> None:
    assert personal_fields(RecipientsAdded) == {
        "recipients.*.phone",
        "recipients.*.name",
        "recipients.*.custom_fields.*",
    }
    assert personal_fields(MessageQueued) >= {"address.phone", "address.lid", "address.bsuid", "content.text"}


@pytest.mark.parametrize("event", EVENT_TYPES.values(), ids=lambda event: event.__name__)
def test_a_field_whose_name_tells_of_a_person_is_marked(event: type[Event]) -> None:
    words = {"phone", "phone_number", "lid", "bsuid", "recipient_key", "text", "profile_name", "body", "custom_fields"}
    marked = {path.removesuffix(".*") for path in personal_fields(event)}
    unmarked = {path for path in _paths(event) if path.rsplit(".", 1)[-1] in words} - marked
    assert unmarked == set()


def _paths(annotation: Any, path: str = "") -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {
            found
            for name, field in annotation.model_fields.items()
            for found in {f"{path}.{name}".lstrip("."), *_paths(field.annotation, f"{path}.{name}".lstrip("."))}
        }
    items = ".*" if getattr(annotation, "__origin__", None) in (tuple, dict) else ""
    return {found for inner in get_args(annotation) for found in _paths(inner, path + items)}


def _subclasses(event: type[Event]) -> set[type[Event]]:
    found = set(event.__subclasses__())
    return found | {inner for child in found for inner in _subclasses(child)}


def _is_of_contracts(name: str) -> bool:
    return any(event.__name__ == name and event.__module__.startswith("contracts.") for event in _subclasses(Event))
