"""Invented histories over all topics that projections read: consistent, with retries, failures, merges and edits."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from contracts import campaigns, contacts, conversations, directory, ids, instances, messages, progress
from contracts.envelope import Envelope, Event
from contracts.ids import Address
from contracts.statuses import StatusReceived

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
Record = tuple[Envelope, Event]


@dataclass
class Dispatch:
    id: UUID
    subject: UUID
    recipient: UUID | None
    campaign: UUID | None
    step: int
    instance: UUID
    address: Address
    version: int = 0
    attempt: int = 1
    sent: int = 0


@dataclass
class History:
    """Grows one event at a time; the clock moves a random step with each."""

    rng: random.Random
    records: list[Record] = field(default_factory=list)
    now: datetime = START
    versions: dict[UUID, int] = field(default_factory=dict)

    def uuid(self) -> UUID:
        return UUID(int=self.rng.getrandbits(128), version=4)

    def tell(self, account: UUID, subject: UUID | str, event: Event, *, streamed: bool = False) -> Envelope:
        version = None
        if streamed and isinstance(subject, UUID):
            version = self.versions[subject] = self.versions.get(subject, 0) + 1
        envelope = Envelope(
            id=self.uuid(),
            type=type(event).__name__,
            version=1,
            source="test",
            subject=str(subject),
            time=self.now,
            account_id=account,
            stream_version=version,
        )
        self.records.append((envelope, event))
        self.now += timedelta(seconds=self.rng.choice((1, 7, 60, 1800, 40_000)))
        return envelope


PHONES = [f"55119{number:08d}" for number in range(40_000_001, 40_000_006)]


def draw_history(seed: int, *, events_min: int = 60) -> list[Record]:
    rng = random.Random(seed)
    history = History(rng)
    accounts = [history.uuid() for _ in range(2)]
    while len(history.records) < events_min:
        account = rng.choice(accounts)
        rng.choice((_play_campaign, _play_campaign, _play_chat, _play_people, _play_instance, _play_directory))(
            history, account
        )
    return history.records


def _play_campaign(history: History, account: UUID) -> None:
    rng, campaign = history.rng, history.uuid()
    instance = ids.contact_id(account, "instance")
    steps = tuple(campaigns.Step(kind="text", content=f"step {n}") for n in range(rng.choice((1, 1, 2, 3))))
    definition = campaigns.Definition(name="One", pool=(instance,), steps=steps, owner_id=rng.choice((None, account)))

    def move(event: Event) -> None:
        history.tell(account, campaign, event, streamed=True)

    move(campaigns.CampaignCreated(run_epoch=0, definition=definition))
    if rng.random() < 0.5:
        move(campaigns.CampaignEdited(run_epoch=0, definition=definition.model_copy(update={"name": "Two"})))
        move(campaigns.CampaignScheduled(run_epoch=0, scheduled_at=history.now))
    phones = rng.sample(PHONES, rng.randint(1, 4))
    added = tuple(
        campaigns.Recipient(
            recipient_id=ids.recipient_id(campaign, ids.phone_key(phone)),
            contact_id=ids.contact_id(account, ids.phone_key(phone)),
            external_id=f"row{nth}",
            phone=phone,
            name=f"Name {nth}",
            custom_fields={"city": "Recife"},
        )
        for nth, phone in enumerate(phones)
    )
    history.tell(account, campaign, campaigns.RecipientsAdded(chunk=0, recipients=added[:2]))
    if added[2:] or rng.random() < 0.3:
        again = added[1:] if rng.random() < 0.5 else added[2:]
        history.tell(account, campaign, campaigns.RecipientsAdded(chunk=1, recipients=again))
    first = 0
    if rng.random() < 0.3:  # the draft gets another audience
        added, first = tuple(rng.sample(added, rng.randint(1, len(added)))), 2
        history.tell(account, campaign, campaigns.RecipientsAdded(chunk=2, first_chunk=2, recipients=added))
    started = {"definition": definition, "chunk_count": 2, "recipient_count": len(added), "first_chunk": first}
    move(campaigns.CampaignStarted(run_epoch=1, **started))
    plan = [
        Dispatch(ids.dispatch_id(one.recipient_id, n), campaign, one.recipient_id, campaign, n, instance,
                 Address(phone=one.phone))
        for one in added
        for n in range(len(steps))
    ]  # fmt: skip
    _change(history, account, plan, "pending")
    for dispatch in plan:
        for _ in range(rng.randint(0, 3)):
            _play_dispatch(history, account, dispatch)
    for _ in range(rng.randint(0, 2)):
        _play_chat(history, account, Address(phone=rng.choice(phones)))
    for event in rng.sample(_ends(), rng.randint(0, 3)):
        move(event)


def _ends() -> list[Event]:
    return [
        campaigns.CampaignPausing(run_epoch=1),
        campaigns.CampaignPaused(run_epoch=1),
        campaigns.CampaignResumed(run_epoch=2),
        campaigns.CampaignCancelling(run_epoch=1),
        campaigns.CampaignCancelled(run_epoch=1),
        campaigns.CampaignCompleted(run_epoch=1),
        campaigns.CampaignFailed(run_epoch=1, reason="no_usable_instance", detail="none"),
        campaigns.CampaignDeleted(run_epoch=1),
        campaigns.CampaignUnscheduled(run_epoch=0),
    ]


def _change(history: History, account: UUID, plan: list[Dispatch], state: Any, reason: str | None = None) -> None:
    changes = []
    for dispatch in plan:
        dispatch.version += 1
        changes.append(
            progress.DispatchChange(
                dispatch_id=dispatch.id, recipient_id=dispatch.recipient or dispatch.subject, step=dispatch.step,
                instance_id=dispatch.instance if history.rng.random() < 0.8 else None, version=dispatch.version,
                attempt=dispatch.attempt, release=0, state=state, reason=reason,
                due_at=history.now if state == "pending" and dispatch.version > 1 else None,
                may_duplicate=state in ("accepted", "unresolved") and dispatch.version % 3 == 0,
                given_up=state == "failed" and dispatch.version % 2 == 1,
            )
        )  # fmt: skip
    if plan:
        history.tell(account, plan[0].subject, progress.DispatchesChanged(changes=tuple(changes)))


def _play_dispatch(history: History, account: UUID, dispatch: Dispatch) -> None:
    """One attempt and what came of it."""
    rng = history.rng
    _change(history, account, [dispatch], "released")
    place = {
        "instance_id": dispatch.instance, "attempt": dispatch.attempt, "release": 0, "campaign_id": dispatch.campaign,
        "run_epoch": 1, "recipient_id": dispatch.recipient, "step": dispatch.step,
    }  # fmt: skip
    fate = rng.choice(
        ("sent", "sent", "sent", "failed", "skipped", "expired", "cancelled", "unresolved", "late", "returned")
    )
    if fate in ("sent", "late"):
        provider_id = f"wamid.{dispatch.id}.{dispatch.attempt}"
        message = ids.message_id(dispatch.instance, provider_id)
        said = {
            "provider_message_id": provider_id, "message_id": message, "address": dispatch.address,
            "contact_id": ids.contact_id(account, ids.recipient_key(dispatch.address)),
            "chat_id": ids.chat_id(dispatch.instance, dispatch.address),
            "content": messages.Content(kind="text", text="hello"), "sent_at": history.now,
        }  # fmt: skip
        if fate == "late":
            history.tell(account, dispatch.id, messages.MessageAmbiguous(reason="timeout", **place))
            resolved = messages.MessageResolved(outcome="accepted", evidence="label", **place, **said)
            history.tell(account, dispatch.id, resolved)
        else:
            history.tell(account, dispatch.id, messages.MessageSent(**place, **said))
        _change(history, account, [dispatch], "accepted")
        _play_statuses(history, account, dispatch.instance, provider_id)
        if rng.random() < 0.3:
            _echo(history, account, dispatch.instance, dispatch.address, provider_id)
        if rng.random() < 0.2:
            _change(history, account, [dispatch], "failed", "undeliverable")
    elif fate == "failed":
        failed = messages.MessageFailed(reason="bad_number", retryable=False, code=str(rng.randint(1, 3)), **place)
        history.tell(account, dispatch.id, failed)
        _change(history, account, [dispatch], "failed", rng.choice(("bad_number", "blocked")))
    elif fate == "returned":
        history.tell(account, dispatch.id, messages.MessageReturned(reason="paused", **place))
        _change(history, account, [dispatch], "pending", "paused")
        return  # nothing was tried: the attempt stays the same
    else:
        _change(history, account, [dispatch], fate, rng.choice((None, "opted_out", "previous_step")))
    dispatch.attempt += 1


def _play_statuses(history: History, account: UUID, instance: UUID, provider_id: str) -> None:
    rng = history.rng
    for status in rng.choices(("sent", "delivered", "read", "played", "failed"), k=rng.randint(0, 4)):
        failed = status == "failed"
        event = StatusReceived(
            instance_id=instance, provider_message_id=provider_id, status=status,
            at=history.now - timedelta(seconds=rng.choice((0, 5, 600))), failure="undeliverable" if failed else None,
            code=str(rng.randint(1, 3)) if failed else None, billable=rng.choice((None, True, False)),
            category=rng.choice((None, "marketing", "utility")),
        )  # fmt: skip
        history.tell(account, ids.message_id(instance, provider_id), event)


def _echo(history: History, account: UUID, instance: UUID, chat: Address, provider_id: str) -> None:
    event = conversations.MessageReceived(
        instance_id=instance, message_id=ids.message_id(instance, provider_id), provider_message_id=provider_id,
        chat=chat, direction="out", origin="api", type="text", text="hello",
        message_at=history.now - timedelta(seconds=history.rng.randint(0, 30)), received_at=history.now,
    )  # fmt: skip
    history.tell(account, ids.chat_id(instance, chat), event)


def _play_chat(history: History, account: UUID, chat: Address | None = None) -> None:
    rng, instance = history.rng, ids.contact_id(account, "instance")
    chat = chat or rng.choice((Address(phone=rng.choice(PHONES)), Address(lid="77@lid"), Address(group="120@g.us")))
    conversation = ids.chat_id(instance, chat)
    for _ in range(rng.randint(1, 3)):
        provider_id = f"in.{history.uuid()}"
        event = conversations.MessageReceived(
            instance_id=instance, message_id=ids.message_id(instance, provider_id), provider_message_id=provider_id,
            chat=chat, direction="in", origin="contact", type="text", text="olá",
            profile_name=rng.choice((None, "Ana", "ana", "Élida")), details={"raw": 1},
            message_at=history.now - timedelta(seconds=rng.choice((0, 3, 90_000))), received_at=history.now,
        )  # fmt: skip
        history.tell(account, conversation, event)
        named = {"instance_id": instance, "provider_message_id": provider_id, "message_id": event.message_id}
        for _ in range(rng.choice((0, 0, 1, 2))):
            edited = conversations.MessageEdited(text=rng.choice("abc"), edited_at=history.now, **named)
            history.tell(account, conversation, edited)
        if rng.random() < 0.2:
            history.tell(account, conversation, conversations.MessageDeleted(deleted_at=history.now, **named))
    _play_desk(history, account, conversation, instance, chat)


def _play_desk(history: History, account: UUID, conversation: UUID, instance: UUID, chat: Address) -> None:
    rng, by = history.rng, history.uuid()
    moves: list[Callable[[], Event]] = [
        lambda: conversations.ConversationAssigned(assignee=rng.choice((None, by)), by=by),
        lambda: conversations.ConversationStateChanged(state=rng.choice(("open", "pending", "resolved"))),
        lambda: conversations.ConversationRead(by=by),
    ]
    for move in rng.choices(moves, k=rng.randint(0, 3)):
        history.tell(account, conversation, move(), streamed=True)
    if rng.random() < 0.4:
        contact = ids.contact_id(account, ids.recipient_key(chat))
        written = conversations.AnswerWritten(
            instance_id=instance,
            contact_id=contact,
            address=chat,
            content=conversations.AnswerContent(text="oi"),
            by=by,
        )
        envelope = history.tell(account, conversation, written, streamed=True)
        answer = Dispatch(ids.answer_dispatch_id(envelope.id), conversation, None, None, 0, instance, chat)
        _change(history, account, [answer], "pending")
        _play_dispatch(history, account, answer)


def _play_people(history: History, account: UUID) -> None:
    rng = history.rng
    addresses = [Address(phone=PHONES[0]), Address(lid="1@lid"), Address(bsuid="b1"), Address(phone=PHONES[1])]
    for address in rng.sample(addresses, rng.randint(1, 3)):
        contact = ids.contact_id(account, ids.recipient_key(address))
        key = ids.recipient_key(address)
        saved = contacts.ContactSaved(
            address=address, name=rng.choice(("Ana", "Bia", "")), external_id=rng.choice((None, "7")),
            tags=tuple(rng.sample(("vip", "new"), rng.randint(0, 2))), custom_fields={"city": rng.choice("AB")},
        )  # fmt: skip
        for event in (
            saved,
            contacts.ContactAliasLearned(address=address.model_copy(update={"lid": "1@lid"}), source="test"),
            contacts.ContactOptedOut(recipient_key=key, reason="manual"),
            contacts.ContactOptedIn(recipient_key=key),
            contacts.ContactErased(recipient_key=key),
        ):
            if rng.random() < 0.5:
                history.tell(account, contact, event, streamed=True)
        if rng.random() < 0.6:
            history.tell(account, contact, contacts.ContactAllocated(instance_id=history.uuid(), recipient_key=key))
        if rng.random() < 0.3:
            bound = contacts.BoundContact(contact_id=contact, recipient_key=key)
            page = contacts.ContactsAllocated(instance_id=history.uuid(), contacts=(bound,))
            history.tell(account, page.instance_id, page)
        if rng.random() < 0.3:
            moved = {"instance_id": history.uuid(), "from_instance_id": history.uuid(), "recipient_key": key}
            history.tell(account, contact, contacts.ContactMoved(**moved))


def _play_instance(history: History, account: UUID) -> None:
    rng, instance = history.rng, ids.contact_id(account, "instance")
    configured = instances.InstanceConfigured(
        name=rng.choice(("Aura #1", "Aura #2")), provider="evolution_web", server_url="http://gateway",
        credentials={"token": "ciphertext"}, webhook_key_hashes=("hash",), max_users=rng.choice((1, 250)),
        status=rng.choice(("active", "paused")),
    )  # fmt: skip
    history.tell(account, instance, configured, streamed=True)
    health: list[Callable[[], Event]] = [
        lambda: instances.InstanceConnected(phone_number=rng.choice((None, PHONES[0])), at=history.now),
        lambda: instances.InstanceDisconnected(reason="logged_out", at=history.now),
        lambda: instances.InstanceConnecting(at=history.now),
        lambda: instances.QrCodeUpdated(qr_code="qr", at=history.now),
        lambda: instances.InstanceThrottled(messages_per_second=12.5, code="130429", at=history.now),
        lambda: instances.InstanceRateRestored(messages_per_second=80.0, at=history.now),
        lambda: instances.BreakerOpened(reason="5xx", until=history.now, at=history.now),
        lambda: instances.BreakerClosed(at=history.now),
        lambda: instances.InstanceLimitsChanged(tier="2", quality=rng.choice((None, "GREEN")), at=history.now),
        lambda: instances.WarmUpChanged(
            day=2, allowance=75, begins_at=history.now, ends_at=history.now, at=history.now
        ),
        lambda: instances.InstanceBanned(reason="spam", at=history.now),
    ]
    for happen in rng.choices(health, k=rng.randint(1, 4)):
        history.tell(account, instance, happen())


def _play_directory(history: History, account: UUID) -> None:
    rng = history.rng
    history.tell(account, account, directory.AccountSaved(name=rng.choice(("Aura", "Aura Ltda"))))
    for nth in range(rng.randint(1, 3)):
        row = ids.contact_id(account, f"row {nth % 2}")
        role: Any = rng.choice(("operator", "admin"))
        history.tell(account, row, directory.UserSaved(email=f"{nth}@example.com", role=role))
        history.tell(account, row, directory.ProductSaved(name=rng.choice("AB"), price_cents=nth, deleted=nth == 2))
