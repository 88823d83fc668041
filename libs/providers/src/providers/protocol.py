"""What a provider is: requests built, answers read, webhooks verified and read. No I/O, no clock, no randomness.

The words here are the providers' own; services translate them into events. Everything is a frozen value, so a
table test can hold any of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from providers.address import Address as Address
from providers.calls import CallAnswer, LookUp, WebhookTarget
from providers.events import WebhookEvent
from providers.failures import BAD_REQUEST, Failure

ContentKind = Literal["text", "image", "video", "audio", "document", "template"]
ProviderName = Literal["evolution_web", "evolution_cloud", "meta_cloud", "zapi"]
Phase = Literal["connect", "write", "read"]


@dataclass(frozen=True, slots=True)
class Content:
    """Rendered content of one message. `text` is the caption for media; components are as Meta's API takes them."""

    kind: ContentKind
    text: str = ""
    media_url: str | None = None
    filename: str | None = None
    mime_type: str | None = None
    template_name: str | None = None
    template_language: str | None = None
    template_components: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One message to one recipient. `client_ref` is our label (dispatch:attempt), `reply_to` a provider's id.

    `message_id`: the id to ask for where the provider lets the client choose one; None derives it from
    `client_ref`.
    """

    recipient: Address
    content: Content
    client_ref: str
    reply_to: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One WhatsApp number at one provider, with its credentials in clear (decrypted by the service).

    Credentials by kind: evolution_* `apikey` (+ `access_token`, `business_id` to create a Cloud instance);
    meta_cloud `access_token` (+ `app_secret` for appsecret_proof); zapi `instance_id`, `token`, `client_token`.
    `gateway_version`: what the gateway said of itself, e.g. "2.4.0"; None = not known.
    """

    kind: ProviderName
    server_url: str = ""
    phone_number_id: str | None = None
    instance_name: str | None = None
    phone_number: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    graph_version: str = "v23.0"
    gateway_version: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Bytes ready to leave. The URL may hold a secret (Z-API): never log it unredacted."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it. `enqueued`: only into the provider's own queue; `held`: it may send later or never.

    `canonical`: the recipient in the provider's own form, where it answered one.
    """

    provider_message_id: str
    canonical: Address | None = None
    held: bool = False
    enqueued: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proven not to have left: nothing is known against the recipient, try again later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """Refused for rate. `scope`: what must slow down. Not sent."""

    scope: Literal["number", "pair", "account", "app"]
    retry_after_s: float | None
    code: str
    failure: Failure
    text: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for a known cause. `code` is the provider's own word or number, "" where it has none."""

    failure: Failure
    code: str = ""
    text: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The bytes left and no answer proves anything. Never to be treated as failed, never to be sent again."""

    reason: str


SendOutcome = Accepted | NotSent | Throttled | Rejected | Ambiguous


class UnsendableMessage(ValueError):
    """This provider has no way to send this message (a template over a web session, media without address)."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.text)
        self.rejected = rejected


def media_url(content: Content) -> str:
    """Raises UnsendableMessage without one."""
    if not content.media_url:
        raise UnsendableMessage(Rejected(BAD_REQUEST, text="media without an address"))
    return content.media_url


@dataclass(frozen=True, slots=True)
class WebhookKeys:
    """What an instance's webhooks may be signed with.

    `signing_secrets`: clear text, for a signature over the body (Meta). `key_hashes`: SHA-256 hex of the keys
    accepted in a header or path now (old and new while rotating). `token_hashes`: of tokens learnt from the
    provider's own header (Z-API); empty = not learnt yet, so not required.
    """

    signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    key_hashes: frozenset[str] = frozenset()
    token_hashes: frozenset[str] = frozenset()


class Provider(Protocol):
    """One dialect. Every method is pure; only what is documented here is raised."""

    @property
    def name(self) -> ProviderName: ...

    def build_request(self, message: OutboundMessage, account: Account) -> HttpRequest:
        """The one HTTP request that sends the message. Raises UnsendableMessage."""

    def own_message_id(self, message: OutboundMessage, account: Account) -> str | None:
        """The provider's message id that the request asks for, where the client may choose it: an uncertain send is
        then recognised by it."""

    def probe_request(self, account: Account) -> HttpRequest | None:
        """Asks what changes without a webhook: the gateway's version, the number's limits. None: nothing to ask."""

    def read_response(self, status: int, headers: Mapping[str, str], body: bytes) -> SendOutcome:
        """What the answer to that request proves. Never raises."""

    def verify(
        self, headers: Mapping[str, str], body: bytes, keys: WebhookKeys, path_secret: str | None = None
    ) -> bool:
        """Whether a webhook comes from whom it says. Constant time, never raises."""

    def read_webhook(self, body: bytes) -> list[WebhookEvent]:
        """All that one webhook says, in its order. Raises UnreadablePayload only."""

    def redact(self, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """The same webhook without secrets, to be stored. Never raises."""

    def connect_requests(self, account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
        """Calls, in order, that make the gateway have this instance, with our webhook, and ask for its QR code."""

    def state_request(self, account: Account) -> HttpRequest:
        """Asks for the connection (web kinds) or for status, quality and limits (Meta)."""

    def webhook_requests(self, account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
        """Calls that point the instance's webhook at us."""

    def disconnect_requests(self, account: Account) -> tuple[HttpRequest, ...]:
        """Calls that end the session but keep the instance."""

    def delete_requests(self, account: Account) -> tuple[HttpRequest, ...]:
        """Calls that remove the instance at the gateway; empty where that is not ours to do."""

    def read_call(self, status: int, headers: Mapping[str, str], body: bytes) -> CallAnswer:
        """What the answer to any of the calls above says, recognised by its shape. Never raises."""

    def look_up_request(
        self, message: OutboundMessage, account: Account, *, since_ms: int, until_ms: int
    ) -> HttpRequest | None:
        """Asks the gateway whether an uncertain send arrived; None where it cannot be asked."""

    def read_look_up(
        self, message: OutboundMessage, since_ms: int, status: int, headers: Mapping[str, str], body: bytes
    ) -> LookUp:
        """What the gateway knows about an uncertain send. Never raises."""


def read_transport_failure(phase: Phase) -> NotSent | Ambiguous:
    """What an exception of the HTTP client proves: only a failure before the first byte is a proof.

    connect: DNS, refused, TLS. write: some bytes may have left. read: time-out, reset or end before an answer.
    """
    if phase == "connect":
        return NotSent("connect_failed")
    return Ambiguous("write_failed" if phase == "write" else "no_answer")
