"""Headers and values come back as they went; what cannot be read says why, without the values."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from contracts.codec import Undecodable, UnknownType, decode, encode
from contracts.contacts import ContactOptedOut
from contracts.envelope import Envelope, Event, UnreadableEnvelope, read_headers, write_headers
from contracts.topics import EVENT_TYPES

words = st.text(min_size=1)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
envelopes = st.builds(
    Envelope,
    id=st.uuids(),
    type=words,
    version=st.integers(1, 99),
    source=words,
    subject=st.text(),
    time=st.datetimes(timezones=zones),
    account_id=st.none() | st.uuids(),
    correlation_id=st.none() | words,
    causation_id=st.none() | st.uuids(),
    traceparent=st.none() | words,
    stream_version=st.none() | st.integers(0, 2**62),
)
SOME = Envelope(UUID(int=1), "T", 1, "s", "k", datetime(2026, 1, 1, tzinfo=UTC))


@given(envelopes)
def test_an_envelope_comes_back_from_its_headers(envelope: Envelope) -> None:
    assert read_headers(write_headers(envelope)) == envelope


@given(envelopes, st.permutations(range(13)))
def test_the_order_of_headers_and_foreign_ones_do_not_matter(envelope: Envelope, order: list[int]) -> None:
    headers = write_headers(envelope)
    shuffled = [headers[n] for n in order if n < len(headers)]
    assert read_headers([("foreign", b"\xff"), *shuffled]) == envelope


@pytest.mark.parametrize("missing", ["ce_id", "ce_type", "ce_source", "ce_time"])
def test_an_envelope_without_a_needed_header_is_unreadable(missing: str) -> None:
    with pytest.raises(UnreadableEnvelope):
        read_headers([header for header in write_headers(SOME) if header[0] != missing])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_id", b"no uuid"),
        ("ce_id", b"\xff"),
        ("ce_time", b"2026-01-01T00:00:00"),
        ("ce_time", b"soon"),
        ("ce_schemaversion", b"one"),
        ("ce_accountid", b"?"),
        ("ce_sequence", b"x"),
    ],
)
def test_a_header_that_cannot_be_read_is_told(name: str, value: bytes) -> None:
    with pytest.raises(UnreadableEnvelope):
        read_headers([*write_headers(SOME), (name, value)])


def test_required_headers_are_those_of_cloudevents_in_binary_mode() -> None:
    names = {name for name, _ in write_headers(SOME._replace(account_id=uuid4()))}
    assert {"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "content-type"} <= names


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_comes_back_from_its_bytes(name: str) -> None:
    event = golden.example(EVENT_TYPES[name], complete=True)
    assert isinstance(event, Event)
    assert decode(name, event.VERSION, encode(event)) == event


def test_a_type_unknown_to_the_contracts_is_told() -> None:
    with pytest.raises(UnknownType):
        decode("NeverHeardOf", 1, b"{}")


@given(st.binary())
def test_no_bytes_do_anything_but_decode_or_be_told_undecodable(value: bytes) -> None:
    with contextlib.suppress(Undecodable):
        decode("CampaignPaused", 1, value)


def test_the_reason_of_an_undecodable_record_tells_no_value_of_it() -> None:
    with pytest.raises(Undecodable) as told:
        decode("ContactOptedOut", 1, b'{"recipient_key": "5511987654321", "reason": "5511987654321"}')
    assert "5511987654321" not in str(told.value)
    assert "reason" in str(told.value)
    assert told.value.__cause__ is None


def test_producers_cannot_add_fields_or_change_an_event() -> None:
    with pytest.raises(ValueError):
        ContactOptedOut(recipient_key="x", reason="manual", more="1")  # type: ignore[call-arg]
    event = ContactOptedOut(recipient_key="x", reason="manual")
    with pytest.raises(ValueError):
        event.reason = "provider"  # type: ignore[misc]
