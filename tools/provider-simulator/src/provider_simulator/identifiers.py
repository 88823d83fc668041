"""Identifiers as each provider makes them. Unique across runs: a run draws its own prefix at start."""

import base64
import os
from hashlib import blake2b


class Mint:
    """Makes ids: a random prefix of the run and a counter."""

    def __init__(self) -> None:
        self._run = os.urandom(5).hex().upper()
        self._count = 0

    def _next(self) -> str:
        self._count += 1
        return f"{self._run}{self._count:08X}"

    def wamid(self, phone: str) -> str:
        """Meta's message id."""
        raw = b"\x1c\x18" + chr(len(phone)).encode() + phone.encode() + b"\x15\x02\x00\x11\x18\x12"
        return "wamid." + base64.b64encode(raw + self._next().encode() + b"\x00").decode()

    def web_id(self) -> str:
        """A web session's message id: 3EB0 and 18 upper-case hex digits."""
        return "3EB0" + self._next()

    def phone_id(self) -> str:
        """The id of a message written on a phone."""
        return "3A" + self._next()

    def long_id(self) -> str:
        """32 upper-case hex digits (Z-API)."""
        return blake2b(self._next().encode(), digest_size=16).hexdigest().upper()

    def row_id(self) -> str:
        """Evolution's own row id."""
        return "cm" + self._next().lower()

    def uuid(self) -> str:
        """A UUID."""
        text = blake2b(self._next().encode(), digest_size=16).hexdigest()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def digits(self) -> str:
        """Meta's numeric ids."""
        return str(1_000_000_000_000_000 + int(self._next(), 16) % 8_999_999_999_999_999)

    @staticmethod
    def digest(content: str | bytes) -> str | None:
        """A short digest for the log: text and bodies are recognised, not kept. None for nothing."""
        if not content:
            return None
        data = content.encode() if isinstance(content, str) else content
        return blake2b(data, digest_size=8).hexdigest()
