"""The AsyncAPI document, generated from contracts.topics: `python -m pombo.asyncapi > docs/asyncapi.yaml`."""

import sys
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from contracts.ids import personal_fields
from contracts.topics import ALL, PARKED, Topic

Node = dict[str, Any]

_TEXT: Node = {"type": "string"}
_ID: Node = {"type": "string", "format": "uuid"}
_ENVELOPE: Node = {
    "type": "object",
    "description": "CloudEvents 1.0 in Kafka's binary mode; ce_subject repeats the record's key.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "content-type": {"const": "application/json"},
        "ce_id": _ID,
        "ce_type": _TEXT,
        "ce_schemaversion": {"type": "string", "pattern": "^[0-9]+$"},
        "ce_source": _TEXT,
        "ce_subject": _TEXT,
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_accountid": _ID,
        "ce_correlationid": _TEXT,
        "ce_causationid": _ID,
        "ce_sequence": {"type": "string", "description": "the version in the event stream, where there is one"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
    },
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_schemaversion", "ce_source", "ce_subject", "ce_time"],
}
_PARKED_NOTES: Node = {
    "type": "object",
    "description": "The headers of the source record, and:",
    "properties": {f"parked_{name}": _TEXT for name in ("topic", "partition", "offset", "group", "reason")},
    "required": [f"parked_{name}" for name in ("topic", "partition", "offset", "group", "reason")],
}


def document() -> Node:
    """AsyncAPI 3.0.0."""
    events = [event for topic in ALL for event in topic.events]
    _, schemas = models_json_schema(
        [(event, "serialization") for event in events], ref_template="#/components/schemas/{model}"
    )
    messages: Node = {event.__name__: _message(event) for event in events}
    messages["ParkedRecord"] = {
        "name": "ParkedRecord",
        "title": "A record that a consumer could not read or handle, with its original bytes",
        "headers": {"$ref": "#/components/schemas/ParkedHeaders"},
        "payload": {"description": "the original value"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pombo",
            "version": "1.0.0",
            "description": "Every fact that crosses a boundary between services. Generated from contracts.topics.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in ALL},
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": {"Envelope": _ENVELOPE, "ParkedHeaders": _PARKED_NOTES, **schemas["$defs"]},
        },
    }


def render() -> str:
    head = "# Generated from contracts.topics by `python -m pombo.asyncapi`. Do not edit.\n"
    return head + yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Writes a node that occurs twice twice, instead of as an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _message(event: Any) -> Node:
    message: Node = {
        "name": event.__name__,
        "title": (event.__doc__ or event.__name__).strip().split("\n")[0],
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/Envelope"},
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "x-version": event.VERSION,
    }
    if personal := sorted(personal_fields(event)):
        message["x-personal-fields"] = personal
    return message


def _channel(topic: Topic) -> Node:
    names = [event.__name__ for event in topic.events] or ["ParkedRecord"]
    retention_ms = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    kafka: Node = {
        "topic": topic.name,
        "partitions": topic.partitions,
        "topicConfiguration": {
            "cleanup.policy": ["compact" if topic.compacted else "delete"],
            "retention.ms": retention_ms,
        },
        "bindingVersion": "0.5.0",
    }
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": kafka},
    }


def _operations() -> Node:
    operations: Node = {}
    for topic in ALL:
        for action, services in (("send", topic.producers), ("receive", topic.consumers)):
            for service in services:
                operations[f"{service}.{action}.{topic.name}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{topic.name}"},
                    "tags": [{"name": service}],
                    "title": f"{service} {'parks on' if topic is PARKED else action + 's'} {topic.name}",
                }
    return operations


if __name__ == "__main__":
    sys.stdout.write(render())
