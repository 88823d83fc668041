"""Where callbacks go: a URL, split once. Pure."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """Where a URL leads."""

    host: str
    port: int
    tls: bool


class Target:
    """One URL, split once."""

    __slots__ = ("address", "head")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        tls = parts.scheme == "https"
        self.address = Address(parts.hostname, parts.port or (443 if tls else 80), tls)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.head = f"{path} HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\n".encode("latin-1")
