"""Callbacks: webhooks on their way to the receiver, with each provider's retry rule.

A webhook is tried, logged, and tried again after growing gaps as its provider would; faults may lose,
delay, reorder or double it before the first try.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from provider_simulator.numbers import Number
from provider_simulator.postman import Postman
from provider_simulator.settings import Delivery
from provider_simulator.targets import Target
from provider_simulator.witness import Witness

TRACES_KEPT = 50_000
NEVER_RETRIED_BY_EVOLUTION = frozenset({400, 401, 403, 404, 422})


class Webhook(NamedTuple):
    """One POST to the receiver. `items` are (message id, status) pairs or other ids, for the log."""

    number: Number
    kind: str
    items: tuple[tuple[str, str], ...]
    url: str
    headers: bytes
    body: bytes


def should_retry(provider: str, status: int) -> bool:
    """Whether the provider tries again after this answer (0: no answer)."""
    if provider == "meta":
        return status != 200
    if 200 <= status < 300:
        return False
    return provider == "zapi" or status not in NEVER_RETRIED_BY_EVOLUTION


def family(kind: str) -> str:
    """The provider of a kind of number: meta, evolution or zapi."""
    return kind.partition("_")[0]


@lru_cache(maxsize=1024)
def _keyed(secret: str) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """The two halves of HMAC-SHA256, keyed once: a fresh HMAC for each webhook costs three times as much."""
    key = secret.encode()
    padded = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in padded)), hashlib.sha256(bytes(b ^ 0x5C for b in padded))


def sign(secret: str, body: bytes) -> str:
    """Meta's X-Hub-Signature-256."""
    keyed_inner, keyed_outer = _keyed(secret)
    inner, outer = keyed_inner.copy(), keyed_outer.copy()
    inner.update(body)
    outer.update(inner.digest())
    return "sha256=" + outer.hexdigest()


def header_lines(headers: dict[str, str]) -> bytes:
    """Header lines for the wire; line breaks cannot be smuggled in."""
    safe = ((k, str(v).replace("\r", "").replace("\n", "")) for k, v in headers.items())
    return "".join(f"{name}: {value}\r\n" for name, value in safe).encode("utf-8", "replace")


class Callbacks:
    """Sends webhooks. `later(seconds, fn, *args)` waits in simulated time."""

    def __init__(self, postman: Postman, witness: Witness, later: Callable[..., Any],
                 delivery: Callable[[], Delivery]) -> None:  # fmt: skip
        self._postman = postman
        self._witness = witness
        self._later = later
        self._delivery = delivery
        self._targets: dict[str, Target | None] = {}
        self._batches: dict[str, list[tuple[dict[str, Any], tuple[str, str]]]] = {}
        self._traces: dict[str, bytes] = {}
        self.retrying = 0
        self.epoch = 0  # a reset makes every waiting retry void

    def follow(self, message_id: str, traceparent: str) -> None:
        """Repeat the trace of a send on its webhooks, if it is recorded; the oldest are forgotten."""
        if traceparent.endswith("-01"):
            self._traces[message_id] = header_lines({"traceparent": traceparent})
            if len(self._traces) > TRACES_KEPT:
                del self._traces[next(iter(self._traces))]

    def post(self, webhook: Webhook, attempt: int = 1) -> None:
        """Try once; what follows depends on the answer."""
        target = self._target(webhook.url)
        if target is None:
            webhook.number.tally.webhooks["no_receiver"] += 1
            return
        epoch = self.epoch

        def done(status: int, _body: bytes, error: str | None) -> None:
            self._note(webhook, attempt, status, error)
            if epoch == self.epoch and should_retry(family(webhook.number.kind), status):
                self._retry(webhook, attempt)

        trace = self._traces.get(webhook.items[0][0], b"") if self._traces and webhook.items else b""
        self._postman.post(target, webhook.headers + trace, webhook.body, done)

    def _target(self, url: str) -> Target | None:
        if url not in self._targets:
            try:
                self._targets[url] = Target(url)
            except ValueError:
                self._targets[url] = None
        return self._targets[url]

    def _note(self, webhook: Webhook, attempt: int, status: int, error: str | None) -> None:
        webhook.number.tally.webhooks["delivered" if 200 <= status < 300 else "refused"] += 1
        fields: dict[str, Any] = {
            "provider": webhook.number.kind, "number": webhook.number.id, "kind": webhook.kind,
            "items": webhook.items, "attempt": attempt, "http_status": status,
        }  # fmt: skip
        if error is not None:
            fields["error"] = error
        self._witness.note("webhook", **fields)

    def _retry(self, webhook: Webhook, attempt: int) -> None:
        delivery = self._delivery()
        gaps = {
            "meta": delivery.meta_gaps_s, "evolution": delivery.evolution_gaps_s, "zapi": delivery.zapi_gaps_s
        }[family(webhook.number.kind)]  # fmt: skip
        if attempt > len(gaps):
            webhook.number.tally.webhooks["given_up"] += 1
            self._witness.note("webhook_given_up", number=webhook.number.id, items=webhook.items)
            return
        self.retrying += 1
        self._later(gaps[attempt - 1], self._again, webhook, attempt + 1, self.epoch)

    def _again(self, webhook: Webhook, attempt: int, epoch: int) -> None:
        self.retrying -= 1
        if epoch == self.epoch:
            self.post(webhook, attempt)

    def post_meta(self, number: Number, value: dict[str, Any], kind: str,
                  items: tuple[tuple[str, str], ...], field: str = "messages") -> None:  # fmt: skip
        """Sign and post one Meta change. What is about the account says when, having no time of its own."""
        entry: dict[str, Any] = {"id": number.waba, "changes": [{"value": value, "field": field}]}
        if field != "messages":
            entry["time"] = int(time.time())
        body = orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})
        headers = b"content-type: application/json\r\nuser-agent: facebookexternalua\r\n"
        if number.app_secret:
            headers += b"x-hub-signature-256: " + sign(number.app_secret, body).encode() + b"\r\n"
        self.post(Webhook(number, kind, items, number.hook.url, headers, body))

    def post_meta_status(self, number: Number, status: dict[str, Any], item: tuple[str, str]) -> None:
        """Post one status at once, or gather it into the number's batch."""
        delivery = self._delivery()
        if delivery.webhook_batch <= 1:
            self._post_statuses(number, [(status, item)])
            return
        batch = self._batches.setdefault(number.id, [])
        batch.append((status, item))
        if len(batch) >= delivery.webhook_batch:
            self.flush(number)
        elif len(batch) == 1:
            # The window is about our own CPU, so it is real time, not simulated.
            asyncio.get_running_loop().call_later(delivery.webhook_batch_ms / 1000, self.flush, number)

    def flush(self, number: Number) -> None:
        """Post what the number's batch holds."""
        batch = self._batches.pop(number.id, None)
        if batch:
            self._post_statuses(number, batch)

    def _post_statuses(self, number: Number, batch: list[tuple[dict[str, Any], tuple[str, str]]]) -> None:
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": number.phone, "phone_number_id": number.id},
            "statuses": [status for status, _ in batch],
        }
        self.post_meta(number, value, "status", tuple(item for _, item in batch))
