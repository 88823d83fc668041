"""Where requests may go: every address of a name is checked, and the connection goes to the checked address.

Private, loopback, link-local and other special addresses are refused unless the setting lists that host:port
(self-hosted gateways, the demonstration's simulator). Redirects are never followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUPS_MAX = 64
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddress(OSError):
    """The address is not public and not on the list of allowed host:port: add it there if it is meant."""


class Egress:
    """The rule, from the setting `allowed_hosts`."""

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed = frozenset(entry.lower() for entry in allowed_hosts)

    def allows(self, host: str, port: int) -> bool:
        """Whether any address is fine for this host, because a person listed it."""
        return f"{host.strip('[]').lower()}:{port}" in self._allowed

    def check_url(self, url: str) -> None:
        """Refuses other schemes, user names in the address, and literal addresses that are not public.

        Raises ForbiddenAddress. Names are checked when they are resolved.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ForbiddenAddress("only plain http and https addresses")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ForbiddenAddress("no valid port") from error
        literal = read_literal(parts.hostname)
        if literal is not None and not self.allows(parts.hostname, port) and not is_public(literal):
            raise ForbiddenAddress("not a public address")


class Lookups(AbstractResolver):
    """Resolves names in threads of their own, many at once.

    A name whose servers do not answer keeps its thread for as long as the C library waits. The loop's own few threads
    would soon all wait for dead names, and every other number for one of these threads.
    """

    def __init__(self, at_once: int = LOOKUPS_MAX) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look = partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedResolver(AbstractResolver):
    """Resolves names for aiohttp and hands out only addresses that may be connected to."""

    def __init__(self, egress: Egress, resolver: AbstractResolver | None = None) -> None:
        self._egress = egress
        self._resolver = resolver or Lookups()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if self._egress.allows(host, port):
            return found
        # One private address among public ones is a trick, not a fallback.
        if not found or not all(_is_public_text(entry["host"]) for entry in found):
            raise ForbiddenAddress("the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def read_literal(host: str) -> IpAddress | None:
    """The address that a host part denotes, also in the odd forms that the C library reads (0x7f.1, 2130706433)."""
    bare = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except OSError:
        return None


def is_public(address: IpAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_public_text(host: Any) -> bool:
    literal = read_literal(str(host))
    return literal is not None and is_public(literal)
