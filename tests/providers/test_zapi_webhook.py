"""Z-API's callbacks: one shape for messages and for much that is none."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.events import (
    CallSeen,
    ChannelErrorSeen,
    ConnectionSeen,
    DeleteSeen,
    EditSeen,
    GroupSeen,
    Ignored,
    MessageSeen,
    NotificationSeen,
    PlaceholderSeen,
    PresenceSeen,
    ReactionSeen,
    StatusSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.registry import PROVIDERS

ZAPI = PROVIDERS["zapi"]


def read(**payload: Any) -> WebhookEvent:
    events = ZAPI.read_webhook(orjson.dumps({"instanceId": "INST", "momment": 1790000001000, **payload}))
    assert len(events) == 1
    return events[0]


def received(**payload: Any) -> WebhookEvent:
    fields = {"messageId": "3EB0A", "phone": "553188880001", "fromMe": False, "senderName": "Ana", **payload}
    return read(type="ReceivedCallback", **fields)


def message_of(**payload: Any) -> MessageSeen:
    event = received(**payload)
    assert isinstance(event, MessageSeen)
    return event


def test_a_text() -> None:
    event = message_of(text={"message": "oi"}, chatLid="8189@lid", referenceMessageId="3EB0Q")
    assert (event.key, event.channel, event.id, event.at_ms) == (
        "message|INST|3EB0A",
        "INST",
        "3EB0A",
        1_790_000_001_000,
    )
    assert (event.type, event.text, event.reply_to, event.profile) == ("text", "oi", "3EB0Q", "Ana")
    assert (event.direction, event.origin, event.peer) == ("in", "contact", Address("553188880001", "8189@lid"))


def test_another_delivery_with_another_momment_is_the_same_message() -> None:
    first, again = message_of(text={"message": "a"}), message_of(text={"message": "a"}, momment=1790000999000)
    assert first.key == again.key


def test_placeholder_content_edit_deletion_and_call_share_an_id_and_no_key() -> None:
    events = [
        received(waitingMessage=True),
        received(text={"message": "a"}),
        received(text={"message": "b"}, isEdit=True, editMessageId="3EB0A"),
        received(notification="REVOKE"),
        received(notification="CALL_RECEIVED", callId="3EB0A"),
        received(reaction={"value": "x", "referencedMessage": {"messageId": "T"}}),
    ]
    assert [type(event) for event in events] == [
        PlaceholderSeen,
        MessageSeen,
        EditSeen,
        DeleteSeen,
        CallSeen,
        ReactionSeen,
    ]
    assert len({event.key for event in events}) == len(events)


@pytest.mark.parametrize(
    ("payload", "origin", "direction"),
    [
        ({}, "contact", "in"),
        ({"fromMe": True}, "phone", "out"),
        ({"fromMe": True, "fromApi": False}, "phone", "out"),
        ({"fromMe": True, "fromApi": True}, "api", "out"),
    ],
)
def test_who_wrote_it(payload: dict[str, Any], origin: str, direction: str) -> None:
    event = message_of(text={"message": "x"}, **payload)
    assert (event.origin, event.direction) == (origin, direction)


@pytest.mark.parametrize(
    ("payload", "peer"),
    [
        ({"phone": "5531"}, Address(phone="5531")),
        ({"phone": "8189@lid", "chatLid": "8189@lid"}, Address(lid="8189@lid")),
        ({"phone": "12036-group", "isGroup": True, "chatLid": None}, Address(group="12036-group")),
        ({"phone": "177-broadcast"}, Address(broadcast="177-broadcast")),
        ({"phone": "12036@newsletter"}, Address(newsletter="12036@newsletter")),
    ],
)
def test_where_it_was_written(payload: dict[str, Any], peer: Address) -> None:
    assert message_of(text={"message": "x"}, **payload).peer == peer


@pytest.mark.parametrize(
    ("payload", "participant"),
    [
        ({"participantPhone": "5531", "participantLid": "81@lid"}, Address("5531", "81@lid")),
        ({"participantPhone": "81@lid"}, Address(lid="81@lid")),
        ({"senderLid": "81@lid"}, Address(lid="81@lid")),
        ({"senderLid": "81@lid", "fromMe": True}, None),
    ],
)
def test_in_a_group_the_writer_is_the_participant(payload: dict[str, Any], participant: Address | None) -> None:
    event = message_of(text={"message": "x"}, phone="12036-group", isGroup=True, **payload)
    assert event.participant == participant


@pytest.mark.parametrize(
    ("payload", "type_", "text"),
    [
        ({"image": {"caption": "c"}}, "image", "c"),
        ({"video": {"caption": "c"}}, "video", "c"),
        ({"ptv": {}}, "video", None),
        ({"audio": {"ptt": True}}, "audio", None),
        ({"document": {"fileName": "n.pdf"}}, "document", None),
        ({"sticker": {}}, "sticker", None),
        ({"location": {"latitude": 1}}, "location", None),
        ({"liveLocation": {"sequence": {"low": 1, "high": 0}}}, "location", None),
        ({"contact": {"displayName": "B"}}, "contacts", None),
        ({"buttonsResponseMessage": {"buttonId": "1", "message": "Sim"}}, "button_reply", "Sim"),
        ({"listResponseMessage": {"message": "Um", "selectedRowId": "1"}}, "list_reply", "Um"),
        ({"hydratedTemplate": {"message": "t"}}, "template", "t"),
        ({"buttonsMessage": {"message": "b"}}, "buttons", "b"),
        ({"carouselMessage": {"text": "c"}}, "carousel", "c"),
        ({"poll": {"question": "?"}}, "poll", "?"),
        ({"pollVote": {}}, "poll_vote", None),
        ({"order": {}}, "order", None),
        ({"product": {}}, "product", None),
        ({"reviewAndPay": {}}, "payment", None),
        ({"sendPayment": {}}, "payment", None),
        ({"event": {"name": "e"}}, "event", "e"),
        ({"eventResponse": {}}, "event_reply", None),
        ({"pinMessage": {}}, "pin", None),
        ({"pixKeyMessage": {}}, "pix", None),
        ({"newsletterAdminInvite": {"text": "i"}}, "invite", "i"),
        ({"image": {"caption": "c"}, "text": {"message": "beside"}}, "image", "c"),
        ({"brandNew": {}}, "unsupported", None),
        ({}, "unsupported", None),
    ],
)
def test_types_of_messages(payload: dict[str, Any], type_: str, text: str | None) -> None:
    event = message_of(**payload)
    assert (event.type, event.text) == (type_, text)


def test_media_and_choices() -> None:
    document = message_of(
        document={"documentUrl": "https://f.example.test/n", "mimeType": "application/pdf", "fileName": "n.pdf"}
    ).media
    assert document is not None
    assert (document.url, document.mime_type, document.filename) == (
        "https://f.example.test/n",
        "application/pdf",
        "n.pdf",
    )
    assert message_of(audio={"ptt": True, "audioUrl": "u"}).voice is True
    assert message_of(buttonsResponseMessage={"buttonId": "1"}).choice_id == "1"
    assert message_of(listResponseMessage={"selectedRowId": "2"}).choice_id == "2"


def test_edits_and_reactions_are_about_another_message() -> None:
    edit = received(text={"message": "novo"}, isEdit=True, editMessageId="3EB0OLD")
    reaction = received(reaction={"value": "❤️", "referencedMessage": {"messageId": "3EB0OUT"}})
    assert isinstance(edit, EditSeen)
    assert isinstance(reaction, ReactionSeen)
    assert (edit.target, edit.text, reaction.target, reaction.emoji) == ("3EB0OLD", "novo", "3EB0OUT", "❤️")


@pytest.mark.parametrize(
    ("notice", "kind"),
    [
        ("CALL_MISSED_VOICE", CallSeen),
        ("GROUP_PARTICIPANT_ADD", GroupSeen),
        ("MEMBERSHIP_APPROVAL_REQUEST", GroupSeen),
        ("REVOKED_MEMBERSHIP_REQUESTS", GroupSeen),
        ("E2E_ENCRYPTED", NotificationSeen),
        ("PROFILE_NAME_UPDATED", NotificationSeen),
        ("NEWSLETTER_ADMIN_DEMOTE", NotificationSeen),
        ("BRAND_NEW", NotificationSeen),
    ],
)
def test_notices(notice: str, kind: type) -> None:
    for payload in ({}, {"messageId": None}):
        assert isinstance(received(notification=notice, notificationParameters=["5531"], **payload), kind)


def test_a_deletion_is_about_the_message_whose_id_it_carries() -> None:
    event = received(notification="REVOKE")
    assert isinstance(event, DeleteSeen)
    assert (event.target, event.key) == ("3EB0A", "delete|INST|3EB0A")


def test_delivery_without_an_error_is_sent_and_not_delivered() -> None:
    event = read(type="DeliveryCallback", phone="5531", zaapId="Z", messageId="M")
    assert isinstance(event, StatusSeen)
    assert (event.id, event.status, event.failure, event.key) == ("M", "sent", None, "delivery|INST|M|ok")


@pytest.mark.parametrize(
    ("error", "name", "error_class"),
    [
        ("The message was not sent due to a likely shadow ban", "shadow_ban", "number_throttle"),
        ("Whatsapp rejected sending this message", "shadow_ban", "number_throttle"),
        ("Whatsapp did not allow sending this message", "shadow_ban", "number_throttle"),
        ("Did not have permission to send this message.", "shadow_ban", "number_throttle"),
        ("Phone number does not exist", "not_on_whatsapp", "recipient_dead"),
        ("Message has not been sent because it got invalid phone number", "not_on_whatsapp", "recipient_dead"),
        ("Got a 404 error while trying to send message", "media_refused", "media"),
        ("Message not send caused by invalid media url", "media_refused", "media"),
        ("Unsupported sticker format: text/html", "media_refused", "media"),
        (
            "The url informed is not a valid url in the media format, apparently it can be an html",
            "media_refused",
            "media",
        ),
        ("Error in audio conversion", "media_refused", "media"),
        ("Timeout on send message", "send_uncertain", "ambiguous"),
        ("Error on send message", "send_uncertain", "ambiguous"),
        ("It was not possible to send message to queue due to request error.", "provider_busy", "retry_later"),
        ("You must accept buttons message terms in panel to send this message.", "unsupported", "permanent"),
        ("You can't message this group as you don't have permission", "group_refused", "permanent"),
        ("Only admins can send messages to this channel", "group_refused", "permanent"),
        ("Something nobody has seen", "unknown_code", "other"),
    ],
)
def test_errors_of_deliveries(error: str, name: str, error_class: str) -> None:
    event = read(type="DeliveryCallback", phone="5531", messageId="M", error=error)
    assert isinstance(event, StatusSeen)
    assert event.failure is not None
    assert (event.status, event.failure.name, event.failure.error_class, event.key) == (
        "failed",
        name,
        error_class,
        "delivery|INST|M|error",
    )


def test_a_shadow_ban_may_be_told_by_its_code_alone() -> None:
    event = read(type="DeliveryCallback", messageId="M", errorCode="SHADOW_BAN")
    assert isinstance(event, StatusSeen)
    assert event.failure is not None
    assert event.failure.name == "shadow_ban"


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SENT", "sent"),
        ("RECEIVED", "delivered"),
        ("MESSAGE_RECEIVED", "delivered"),
        ("READ", "read"),
        ("PLAYED", "played"),
    ],
)
def test_one_status_callback_names_many_messages(word: str, status: str) -> None:
    body = {
        "instanceId": "INST",
        "type": "MessageStatusCallback",
        "status": word,
        "ids": ["A", "B", ""],
        "phone": "5531",
        "momment": 1790000001000,
    }
    events = ZAPI.read_webhook(orjson.dumps(body))
    assert [(event.id, event.status, event.key) for event in events if isinstance(event, StatusSeen)] == [
        ("A", status, f"status|INST|A|{word}|"),
        ("B", status, f"status|INST|B|{word}|"),
    ]


def test_participants_of_statuses_may_be_bare_lids() -> None:
    event = read(
        type="MessageStatusCallback",
        status="READ",
        ids=["A"],
        phone="12-group",
        isGroup=True,
        participant="126104585119999",
    )
    assert isinstance(event, StatusSeen)
    assert (event.peer, event.participant) == (Address(group="12-group"), Address(lid="126104585119999@lid"))
    assert event.key == "status|INST|A|READ|126104585119999@lid"


@pytest.mark.parametrize("word", ["READ_BY_ME", "READ-SELF", "BRAND_NEW", None])
def test_own_reading_and_unknown_statuses_are_ignored(word: str | None) -> None:
    event = read(type="MessageStatusCallback", status=word, ids=["A"], phone="5531")
    assert isinstance(event, Ignored)
    assert event.raw["ids"] == ["A"]


def test_connection_in_seconds_or_milliseconds() -> None:
    opened = read(type="ConnectedCallback", connected=True, phone="5511", momment=1790000001000)
    closed = read(
        type="DisconnectedCallback", disconnected=True, error="Device has been disconnected", momment=1790000001
    )
    assert isinstance(opened, ConnectionSeen)
    assert isinstance(closed, ConnectionSeen)
    assert (opened.state, opened.phone, closed.state, closed.reason) == (
        "open",
        "5511",
        "closed",
        "Device has been disconnected",
    )
    assert opened.at_ms == closed.at_ms == 1_790_000_001_000


def test_presence_and_proxy() -> None:
    presence = read(type="PresenceChatCallback", phone="5531", status="COMPOSING")
    assert isinstance(presence, PresenceSeen)
    assert presence.event == "COMPOSING"
    fault = read(type="ProxyCallback", error="proxy (socks5://user:pass@localhost:1080) failed")
    assert isinstance(fault, ChannelErrorSeen)
    assert "pass" not in fault.text


def test_an_unknown_type_is_kept_and_ignored() -> None:
    event = read(type="BrandNewCallback")
    assert isinstance(event, Ignored)
    assert event.raw["type"] == "BrandNewCallback"


@pytest.mark.parametrize(("body", "reason"), [(b"", "not_json"), (b"1", "not_an_object"), (b"{}", "no_type")])
def test_what_cannot_be_read_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePayload) as refused:
        ZAPI.read_webhook(body)
    assert refused.value.reason == reason
