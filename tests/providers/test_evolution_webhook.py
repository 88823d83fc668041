"""Evolution's webhooks, in the variants of 2.2 to 2.4."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.events import (
    CallSeen,
    ChannelErrorSeen,
    ConnectionSeen,
    ContactSeen,
    DeleteSeen,
    EditSeen,
    GroupSeen,
    HistorySeen,
    Ignored,
    MessageSeen,
    PlaceholderSeen,
    PresenceSeen,
    QrSeen,
    ReactionSeen,
    StatusSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.registry import PROVIDERS

WEB, CLOUD = PROVIDERS["evolution_web"], PROVIDERS["evolution_cloud"]
PHONE, LID, GROUP = "553188880001@s.whatsapp.net", "76201@lid", "12036@g.us"


def envelope(event: str, data: Any, **more: Any) -> bytes:
    return orjson.dumps(
        {
            "event": event,
            "instance": "loja1",
            "data": data,
            "date_time": "2026-10-08T09:00:00.000Z",
            "apikey": None,
            **more,
        }
    )


def read(event: str, data: Any, **more: Any) -> WebhookEvent:
    events = WEB.read_webhook(envelope(event, data, **more))
    assert len(events) == 1
    return events[0]


def upsert(
    message: dict[str, Any] | None, key: dict[str, Any] | None = None, event: str = "messages.upsert", **data: Any
) -> WebhookEvent:
    whole_key = {"remoteJid": PHONE, "fromMe": False, "id": "3EB0A", **(key or {})}
    return read(
        event, {"key": whole_key, "pushName": "Ana", "message": message, "messageTimestamp": 1790000001, **data}
    )


def message_of(message: dict[str, Any], **data: Any) -> MessageSeen:
    event = upsert(message, **data)
    assert isinstance(event, MessageSeen)
    return event


def test_a_text() -> None:
    event = message_of({"conversation": "oi"}, messageType="conversation")
    assert (event.key, event.channel, event.id, event.at_ms) == (
        "message|loja1|3EB0A",
        "loja1",
        "3EB0A",
        1_790_000_001_000,
    )
    assert (event.type, event.text, event.peer, event.profile) == ("text", "oi", Address(phone="553188880001"), "Ana")
    assert (event.direction, event.origin) == ("in", "contact")


@pytest.mark.parametrize("name", ["messages.upsert", "MESSAGES_UPSERT", "messages-upsert", "Messages.Upsert"])
def test_event_names_are_the_same_however_written(name: str) -> None:
    assert isinstance(upsert({"conversation": "oi"}, event=name), MessageSeen)


@pytest.mark.parametrize(
    ("key", "peer"),
    [
        ({"remoteJid": LID}, Address(lid=LID)),
        ({"remoteJid": PHONE, "senderPn": PHONE, "senderLid": LID}, Address("553188880001", LID)),
        ({"remoteJid": PHONE, "previousRemoteJid": LID}, Address("553188880001", LID)),
        ({"remoteJid": LID, "remoteJidAlt": PHONE, "addressingMode": "lid"}, Address("553188880001", LID)),
        ({"remoteJid": PHONE, "remoteJidAlt": PHONE, "addressingMode": "lid"}, Address("553188880001")),
        ({"remoteJid": PHONE, "remoteJidAlt": LID, "addressingMode": "pn"}, Address("553188880001", LID)),
        ({"remoteJid": "553188880001:12@s.whatsapp.net"}, Address("553188880001")),
        (
            {"remoteJid": PHONE, "fromMe": True, "senderPn": "5511@s.whatsapp.net", "senderLid": "1@lid"},
            Address("553188880001"),
        ),
    ],
    ids=[
        "2.2 lid only",
        "2.3.0 sender",
        "2.3.1 previous",
        "2.3.5 alt",
        "2.3.7 same twice",
        "2.4 swapped",
        "device",
        "own sender",
    ],
)
def test_the_chats_names_by_version(key: dict[str, Any], peer: Address) -> None:
    event = upsert({"conversation": "oi"}, key)
    assert isinstance(event, MessageSeen)
    assert event.peer == peer


@pytest.mark.parametrize(
    "names",
    [
        {"participant": LID, "participantAlt": PHONE},
        {"participant": PHONE, "participantLid": LID},
        {"participant": LID, "participantPn": PHONE},
    ],
)
def test_in_a_group_the_writer_is_the_participant(names: dict[str, str]) -> None:
    event = upsert({"conversation": "oi"}, {"remoteJid": GROUP, **names})
    assert isinstance(event, MessageSeen)
    assert (event.peer, event.participant) == (Address(group=GROUP), Address("553188880001", LID))


@pytest.mark.parametrize("jid", ["status@broadcast", "123@broadcast", "12036@newsletter"])
def test_stories_lists_and_channels_are_ignored(jid: str) -> None:
    assert isinstance(upsert({"conversation": "x"}, {"remoteJid": jid}), Ignored)


def test_our_own_message_is_one_whether_seen_as_sent_or_as_upserted() -> None:
    by_api = upsert({"conversation": "x"}, {"fromMe": True}, "send.message")
    echoed = upsert({"conversation": "x"}, {"fromMe": True})
    assert isinstance(by_api, MessageSeen)
    assert isinstance(echoed, MessageSeen)
    assert (by_api.origin, echoed.origin, by_api.direction, by_api.profile) == ("api", "phone", "out", None)
    assert by_api.key == echoed.key


META_KEYS = {"messageContextInfo": {"deviceListMetadata": {}}, "base64": "AAAA", "senderKeyDistributionMessage": {}}


@pytest.mark.parametrize(
    ("message", "type_", "text", "choice"),
    [
        ({"conversation": "oi"}, "text", "oi", None),
        ({"extendedTextMessage": {"text": "oi"}}, "text", "oi", None),
        ({"imageMessage": {"caption": "c", "mimetype": "image/jpeg"}}, "image", "c", None),
        ({"videoMessage": {"caption": "c"}}, "video", "c", None),
        ({"ptvMessage": {}}, "video", None, None),
        ({"audioMessage": {"ptt": True}}, "audio", None, None),
        ({"documentMessage": {"fileName": "n.pdf"}}, "document", None, None),
        ({"documentWithCaptionMessage": {"message": {"documentMessage": {"caption": "c"}}}}, "document", "c", None),
        ({"viewOnceMessageV2": {"message": {"imageMessage": {}}}}, "image", None, None),
        (
            {"ephemeralMessage": {"message": {"viewOnceMessage": {"message": {"videoMessage": {}}}}}},
            "video",
            None,
            None,
        ),
        ({"stickerMessage": {}}, "sticker", None, None),
        ({"locationMessage": {"degreesLatitude": 1.5}}, "location", None, None),
        ({"liveLocationMessage": {}}, "location", None, None),
        ({"contactMessage": {}}, "contacts", None, None),
        ({"contactsArrayMessage": {}}, "contacts", None, None),
        (
            {"buttonsResponseMessage": {"selectedButtonId": "1", "selectedDisplayText": "Sim"}},
            "button_reply",
            "Sim",
            "1",
        ),
        ({"templateButtonReplyMessage": {"selectedId": "1", "selectedDisplayText": "Sim"}}, "button_reply", "Sim", "1"),
        (
            {"listResponseMessage": {"title": "Um", "singleSelectReply": {"selectedRowId": "1"}}},
            "list_reply",
            "Um",
            "1",
        ),
        (
            {
                "interactiveResponseMessage": {
                    "body": {"text": "Sim"},
                    "nativeFlowResponseMessage": {"paramsJson": '{"id":"1"}'},
                }
            },
            "button_reply",
            "Sim",
            "1",
        ),
        (
            {"interactiveResponseMessage": {"nativeFlowResponseMessage": {"paramsJson": "no json"}}},
            "button_reply",
            None,
            None,
        ),
        ({"pollCreationMessageV3": {}}, "poll", None, None),
        ({"pollUpdateMessage": {}}, "poll_vote", None, None),
        ({"albumMessage": {}}, "unsupported", None, None),
        ({}, "unsupported", None, None),
    ],
)
def test_content_is_found_among_metadata(
    message: dict[str, Any], type_: str, text: str | None, choice: str | None
) -> None:
    for whole in (message, {**META_KEYS, **message}):
        event = message_of(whole)
        assert (event.type, event.text, event.choice_id) == (type_, text, choice)


def test_media() -> None:
    image = message_of(
        {
            "imageMessage": {"mimetype": "image/jpeg", "url": "https://mmg.example.test/x.enc"},
            "mediaUrl": "https://s3.example.test/x",
        }
    )
    inline = message_of({"audioMessage": {"mimetype": "audio/ogg", "ptt": True}, "base64": "AAAA"})
    document = message_of({"documentWithCaptionMessage": {"message": {"documentMessage": {"fileName": "n.pdf"}}}})
    assert image.media is not None
    assert inline.media is not None
    assert document.media is not None
    assert (image.media.url, image.media.mime_type, image.media.inline) == (
        "https://s3.example.test/x",
        "image/jpeg",
        False,
    )
    assert (inline.media.inline, inline.voice, document.media.filename) == (True, True, "n.pdf")


@pytest.mark.parametrize(
    ("message", "data", "quoted"),
    [
        ({"conversation": "x"}, {"contextInfo": {"stanzaId": "Q"}}, "Q"),
        ({"conversation": "x", "contextInfo": {"stanzaId": "Q"}}, {}, "Q"),
        ({"imageMessage": {"contextInfo": {"stanzaId": "Q"}}}, {"contextInfo": None}, "Q"),
        ({"conversation": "x"}, {"contextInfo": {"deviceListMetadataVersion": 2}}, None),
    ],
)
def test_the_quote_stands_in_different_places(
    message: dict[str, Any], data: dict[str, Any], quoted: str | None
) -> None:
    assert message_of(message, **data).reply_to == quoted


@pytest.mark.parametrize(
    "stamp", [1790000001, "1790000001", {"low": 1790000001, "high": 0, "unsigned": True}, 1790000001000]
)
def test_times_in_all_their_forms(stamp: Any) -> None:
    assert message_of({"conversation": "x"}, messageTimestamp=stamp).at_ms == 1_790_000_001_000


@pytest.mark.parametrize("stamp", [None, "", "soon", -1, True, "9" * 25, 1.5, {"low": "x"}, []])
def test_a_strange_time_is_no_time(stamp: Any) -> None:
    assert message_of({"conversation": "x"}, messageTimestamp=stamp).at_ms is None


def test_reactions() -> None:
    event = upsert({"reactionMessage": {"key": {"id": "3EB0OUT"}, "text": "👍"}})
    removed = upsert({"reactionMessage": {"key": {"id": "3EB0OUT"}, "text": ""}})
    assert isinstance(event, ReactionSeen)
    assert isinstance(removed, ReactionSeen)
    assert (event.target, event.emoji, removed.emoji) == ("3EB0OUT", "👍", "")


def test_a_deletion_is_one_however_it_is_told() -> None:
    told = upsert({"protocolMessage": {"key": {"id": "3EB0OLD"}, "type": "REVOKE"}})
    event = read("messages.delete", {"remoteJid": PHONE, "fromMe": False, "id": "3EB0OLD", "status": "DELETED"})
    row = read("messages.delete", {"id": "row", "key": {"id": "3EB0OLD", "remoteJid": PHONE}})
    for deletion in (told, event, row):
        assert isinstance(deletion, DeleteSeen)
        assert (deletion.target, deletion.key) == ("3EB0OLD", "delete|loja1|3EB0OLD")


def test_an_edit_is_one_however_it_is_told() -> None:
    event = read(
        "messages.edited",
        {
            "key": {"id": "3EB0OLD", "remoteJid": PHONE, "fromMe": False},
            "editedMessage": {"conversation": "novo"},
            "timestampMs": "1790000005000",
        },
    )
    protocol = {
        "key": {"id": "3EB0OLD"},
        "type": 14,
        "editedMessage": {"conversation": "novo"},
        "timestampMs": "1790000005000",
    }
    told = upsert({"protocolMessage": protocol})
    wrapped = upsert({"editedMessage": {"message": {"protocolMessage": protocol}}})
    for edit in (event, told, wrapped):
        assert isinstance(edit, EditSeen)
        assert (edit.target, edit.text, edit.at_ms, edit.key) == (
            "3EB0OLD",
            "novo",
            1_790_000_005_000,
            "edit|loja1|3EB0OLD|1790000005000",
        )


def test_other_protocol_messages_are_ignored() -> None:
    assert isinstance(upsert({"protocolMessage": {"type": "HISTORY_SYNC_NOTIFICATION"}}), Ignored)


def test_what_could_not_be_decrypted_follows_later() -> None:
    event = upsert(None, messageStubType=2)
    assert isinstance(event, PlaceholderSeen)
    assert event.key != message_of({"conversation": "x"}).key


WORDS = [
    ("ERROR", "failed"),
    ("PENDING", "accepted"),
    ("SERVER_ACK", "sent"),
    ("DELIVERY_ACK", "delivered"),
    ("READ", "read"),
    ("PLAYED", "played"),
    (3, "delivered"),
]


@pytest.mark.parametrize(("word", "status"), WORDS)
def test_statuses(word: Any, status: str) -> None:
    event = read(
        "messages.update", {"keyId": "3EB0OUT", "messageId": "row", "remoteJid": PHONE, "fromMe": True, "status": word}
    )
    assert isinstance(event, StatusSeen)
    assert (event.id, event.status, event.key) == ("3EB0OUT", status, f"status|loja1|3EB0OUT|{status}")
    assert (event.failure.name if event.failure else None) == ("cause_lost" if status == "failed" else None)
    assert event.at_ms is None


@pytest.mark.parametrize(
    ("word", "status"), [("SENT", "sent"), ("DELIVERED", "delivered"), ("READ", "read"), ("FAILED", "failed")]
)
def test_cloud_statuses_say_from_me_false_and_are_ours_all_the_same(word: str, status: str) -> None:
    data = {"keyId": "wamid.OUT", "messageId": "row", "remoteJid": PHONE, "fromMe": False, "status": word}
    for provider in (CLOUD, WEB):
        (event,) = provider.read_webhook(envelope("messages.update", data))
        assert isinstance(event, StatusSeen)
        assert event.status == status


def test_our_own_reading_is_ignored() -> None:
    assert isinstance(
        read("messages.update", {"keyId": "3A", "remoteJid": PHONE, "fromMe": False, "status": "READ"}), Ignored
    )


@pytest.mark.parametrize("word", ["DELETED", "BRAND_NEW", None])
def test_an_unknown_status_is_kept_and_ignored(word: str | None) -> None:
    event = read("messages.update", {"keyId": "3EB0OUT", "remoteJid": PHONE, "fromMe": True, "status": word})
    assert isinstance(event, Ignored)
    assert event.raw["keyId"] == "3EB0OUT"


def test_updates_in_a_list_are_read_each() -> None:
    rows = [
        {"key": {"id": "A", "fromMe": True}, "update": {"status": 3}},
        {"key": {"id": "B", "fromMe": True}, "update": {"status": 4}},
    ]
    events = WEB.read_webhook(envelope("MESSAGES_UPDATE", rows))
    assert [(event.id, event.status) for event in events if isinstance(event, StatusSeen)] == [
        ("A", "delivered"),
        ("B", "read"),
    ]


@pytest.mark.parametrize(
    ("word", "state"),
    [("open", "open"), ("connecting", "connecting"), ("close", "closed"), ("refused", "pairing_aborted")],
)
def test_connection(word: str, state: str) -> None:
    event = read(
        "connection.update", {"instance": "loja1", "state": word, "statusReason": 401, "wuid": "5511@s.whatsapp.net"}
    )
    assert isinstance(event, ConnectionSeen)
    assert (event.state, event.reason, event.phone) == (state, "401", "5511")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("logout.instance", None),
        ("remove.instance", None),
        ("status.instance", {"status": "closed", "disconnectionReasonCode": 401}),
    ],
)
def test_ends_of_a_connection(name: str, data: Any) -> None:
    event = read(name, data)
    assert isinstance(event, ConnectionSeen)
    assert event.state == "closed"


@pytest.mark.parametrize("name", ["qrcode.updated", "qrcode.update", "QRCODE_UPDATED"])
def test_a_qr_code(name: str) -> None:
    event = read(
        name,
        {"qrcode": {"instance": "loja1", "pairingCode": "WZYE", "code": "2@x", "base64": "data:image/png;base64,AA"}},
    )
    assert isinstance(event, QrSeen)
    assert (event.code, event.image, event.pairing_code, event.exhausted) == (
        "2@x",
        "data:image/png;base64,AA",
        "WZYE",
        False,
    )


def test_no_more_qr_codes() -> None:
    event = read("qrcode.updated", {"message": "QR code limit reached, please login again", "statusCode": 500})
    assert isinstance(event, QrSeen)
    assert event.exhausted


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"messages": rows}])
def test_history_is_one_event_with_its_messages(wrap: Any) -> None:
    rows = [
        {"key": {"remoteJid": PHONE, "id": name, "fromMe": False}, "message": {"conversation": name}}
        for name in ("A", "B")
    ]
    event = read("messages.set", wrap(rows), isLatest=False, progress=12)
    assert isinstance(event, HistorySeen)
    assert [message.text for message in event.messages] == ["A", "B"]


def test_people_groups_presence_and_calls() -> None:
    people = WEB.read_webhook(
        envelope("contacts.upsert", [{"remoteJid": PHONE, "pushName": "Ana"}, {"remoteJid": LID, "pushName": "Bia"}])
    )
    assert [(event.name, event.peer) for event in people if isinstance(event, ContactSeen)] == [
        ("Ana", Address("553188880001")),
        ("Bia", Address(lid=LID)),
    ]
    group = read(
        "group-participants.update",
        {"id": GROUP, "action": "add", "participants": [LID], "participantsData": [{"jid": LID, "phoneNumber": PHONE}]},
    )
    assert isinstance(group, GroupSeen)
    assert (group.event, group.peer, group.participants) == (
        "add",
        Address(group=GROUP),
        (Address("553188880001", LID),),
    )
    presence = read("presence.update", {"id": PHONE, "presences": {PHONE: {"lastKnownPresence": "composing"}}})
    assert isinstance(presence, PresenceSeen)
    assert presence.event == "composing"
    call = read(
        "call", {"id": "C", "from": PHONE, "chatId": PHONE, "date": "2026-10-08T12:00:00.000Z", "status": "offer"}
    )
    assert isinstance(call, CallSeen)
    assert (call.event, call.peer, call.at_ms) == ("offer", Address("553188880001"), 1_791_460_800_000)


def test_a_fault_has_no_instance() -> None:
    (event,) = WEB.read_webhook(
        orjson.dumps({"event": "error", "data": {"error": "Bad Request", "message": ["why"]}, "api_key": "x"})
    )
    assert isinstance(event, ChannelErrorSeen)
    assert event.channel is None
    assert "why" in event.text


def test_the_false_utc_of_date_time_is_never_used() -> None:
    assert read("connection.update", {"state": "open"}).at_ms is None


@pytest.mark.parametrize("name", ["chats.upsert", "labels.edit", "application.startup", "brand.new"])
def test_other_events_are_kept_and_ignored(name: str) -> None:
    event = read(name, [{"remoteJid": PHONE}])
    assert isinstance(event, Ignored)
    assert event.raw["event"] == name


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"<html>", "not_json"), (b'"x"', "not_an_object"), (b"{}", "no_event"), (b'{"event":{}}', "no_event")],
)
def test_what_cannot_be_read_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePayload) as refused:
        WEB.read_webhook(body)
    assert refused.value.reason == reason
