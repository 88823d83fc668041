"""What all baselines share: whom they send to, and one POST to the provider, with the client that our sender uses."""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import aiohttp

IN_FLIGHT_MAX = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a baseline finds the provider, its number there, and its queue."""

    provider: str
    number: str
    token: str
    database: str
    redis_port: str

    def environment(self) -> dict[str, str]:
        return {f"PEER_{name.upper()}": value for name, value in asdict(self).items()}


def told_peer() -> Peer:
    """Raises KeyError outside of a bench."""
    return Peer(**{name: os.environ[f"PEER_{name.upper()}"] for name in Peer.__slots__})


def people(count: int) -> list[tuple[str, str]]:
    """Phone and text, everybody once."""
    return [(f"55119{turn + 10_000_000:08d}", f"Olá {turn}, seu cupom é AURA10.") for turn in range(count)]


def client(peer: Peer) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {peer.token}"}
    return aiohttp.ClientSession(peer.provider, headers=headers, connector=aiohttp.TCPConnector(limit=IN_FLIGHT_MAX))


async def send(session: aiohttp.ClientSession, peer: Peer, phone: str, text: str) -> str:
    """The provider's id of the message. Raises aiohttp.ClientError."""
    body = {"messaging_product": "whatsapp", "to": phone, "type": "text", "text": {"body": text}}
    async with session.post(f"/v23.0/{peer.number}/messages", json=body, raise_for_status=True) as response:
        answer = await response.json()
    return str(answer["messages"][0]["id"])


async def told(
    prepare: Callable[[Peer, int], Awaitable[None]],
    work: Callable[[Peer], Awaitable[None]],
    waiting: Callable[[Peer], Awaitable[int]],
) -> None:
    """The command line of every baseline: `prepare COUNT`, `work` (until a signal), `waiting` (prints how many)."""
    peer = told_peer()
    match sys.argv[1:]:
        case ["prepare", count]:
            await prepare(peer, int(count))
        case ["work"]:
            await work(peer)
        case ["waiting"]:
            print(await waiting(peer))
        case _:
            sys.exit("usage: prepare COUNT | work | waiting")
