"""Who may hand in a webhook: pure decisions over what the door knows. No I/O, no clock."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from providers.protocol import ProviderName, WebhookKeys
from providers.registry import PROVIDERS

Refusal = Literal["unknown_instance", "bad_key", "bad_signature", "unreadable"]


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """One number as the door knows it. `keys` and `verify_token` are clear text and never leave the process.

    `business_id`: Meta's account (WABA) that the number belongs to, where its credentials name it.
    """

    id: UUID
    account_id: UUID
    provider: ProviderName
    gateway_instance: str | None
    phone_number_id: str | None
    phone_number: str | None
    keys: WebhookKeys
    verify_token: str | None = None
    business_id: str | None = None

    def has_number(self, written: str) -> bool:
        """However the number is written: Meta shows it with spaces and signs."""
        return self.phone_number is not None and _digits(self.phone_number) == _digits(written)


def _digits(phone_number: str) -> str:
    return "".join(filter(str.isdigit, phone_number))


@dataclass(frozen=True, slots=True)
class Signer:
    """An app at Meta. `account_ids`: of whose numbers it may speak, the accounts that gave us its secret; None: of
    anybody's, as the installation's own app."""

    keys: WebhookKeys
    account_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """`instance` is None for Meta: one POST may mix numbers, and accounts among `account_ids` (as a Signer's)."""

    instance: KnownInstance | None
    account_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """`status` is what the provider must see: Evolution drops an event for ever after a 4xx, so what may only be
    too early (an instance just being created) is 503."""

    status: int
    reason: Refusal


def admit_evolution(candidates: Iterable[KnownInstance], headers: Mapping[str, str], body: bytes) -> Admitted | Refused:
    """One candidate where the address names our instance; all of one name at the common address."""
    known = tuple(candidates)
    if not known:
        return Refused(503, "unknown_instance")
    for instance in known:
        if PROVIDERS["evolution_web"].verify(headers, body, instance.keys):
            return Admitted(instance)
    return Refused(401, "bad_key")


def admit_zapi(
    instances: Iterable[KnownInstance], headers: Mapping[str, str], body: bytes, path_secret: str
) -> Admitted | Refused:
    """The secret in the path names the instance; the undocumented token header must agree where it is sent."""
    for instance in instances:
        if PROVIDERS["zapi"].verify(headers, body, instance.keys, path_secret):
            return Admitted(instance)
    return Refused(401, "bad_key")


def admit_meta(signers: Iterable[Signer], headers: Mapping[str, str], body: bytes) -> Admitted | Refused:
    """The signature over the raw bytes must be one of the active app secrets', and says whose numbers it is about."""
    for signer in signers:
        if PROVIDERS["meta_cloud"].verify(headers, body, signer.keys):
            return Admitted(None, signer.account_ids)
    return Refused(401, "bad_signature")


def answer_handshake(query: Mapping[str, str], verify_tokens: Iterable[str]) -> str | None:
    """Meta's GET verification: the challenge to echo, or None to refuse."""
    token = query.get("hub.verify_token", "").encode()
    known = [hmac.compare_digest(expected.encode(), token) for expected in verify_tokens if expected]
    if query.get("hub.mode") != "subscribe" or not any(known):
        return None
    return query.get("hub.challenge", "")
