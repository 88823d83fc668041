"""docs/asyncapi.yaml is what contracts.topics says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from contracts.topics import ALL, EVENT_TYPES
from pombo.asyncapi import document, render

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.yaml"


def test_the_committed_document_is_current() -> None:
    assert COMMITTED.read_text() == render(), "run `python -m pombo.asyncapi > docs/asyncapi.yaml`"


def test_it_reads_back_as_the_document() -> None:
    assert yaml.safe_load(render()) == document()


def test_every_topic_is_a_channel_and_every_event_a_message() -> None:
    written = document()
    assert set(written["channels"]) == {topic.name for topic in ALL}
    assert set(written["components"]["messages"]) == {*EVENT_TYPES, "ParkedRecord"}


def test_producers_and_consumers_are_operations() -> None:
    operations = document()["operations"]
    assert len(operations) == sum(len(topic.producers) + len(topic.consumers) for topic in ALL)
    assert operations["scheduler.send.message-queued"]["channel"] == {"$ref": "#/channels/message-queued"}


def test_every_reference_leads_somewhere() -> None:
    written = document()
    for reference in _references(written):
        node: Any = written
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_personal_fields_are_told() -> None:
    assert "address.phone" in document()["components"]["messages"]["MessageQueued"]["x-personal-fields"]


def _references(node: Any) -> Iterator[str]:
    match node:
        case dict():
            if "$ref" in node:
                yield node["$ref"]
            for inner in node.values():
                yield from _references(inner)
        case list():
            for inner in node:
                yield from _references(inner)
