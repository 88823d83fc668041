"""Addresses that users give: only public ones, or what the setting lists."""

import asyncio
import socket
import threading

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from sender.gateway.egress import CheckedResolver, Egress, ForbiddenAddress, Lookups

FORBIDDEN = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://10.0.0.1/",
    "http://172.16.3.4/",
    "http://192.168.1.1:8080/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "http:///path",
    "http://example.com:99999/",
]


@pytest.mark.parametrize("url", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        Egress(()).check_url(url)


@pytest.mark.parametrize(
    "url", ["https://graph.facebook.com/v23.0", "http://8.8.8.8/", "https://[2606:4700::1111]/", "http://[::ffff:8.8.8.8]/"]
)  # fmt: skip
def test_a_public_address_is_fine(url: str) -> None:
    Egress(()).check_url(url)


def test_only_the_listed_host_and_port_are_opened() -> None:
    egress = Egress(("127.0.0.1:8090", "[::1]:80", "evolution.local:8080"))
    egress.check_url("http://127.0.0.1:8090/message")
    assert egress.allows("Evolution.local", 8080)
    assert not egress.allows("evolution.local", 8081)
    with pytest.raises(ForbiddenAddress):
        egress.check_url("http://127.0.0.1:8091/message")


class Names(AbstractResolver):
    """Answers these addresses, one list after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        return


async def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    for answer in (["10.1.2.3"], ["8.8.8.8", "127.0.0.1"], ["::1"], []):
        with pytest.raises(ForbiddenAddress):
            await CheckedResolver(Egress(()), Names(answer)).resolve("evil.example", 443)


async def test_a_name_that_changes_its_mind_is_refused_when_it_does() -> None:
    """Rebinding: the connection goes to what was checked, and the next answer is checked anew."""
    resolver = CheckedResolver(Egress(()), Names(["8.8.8.8"], ["127.0.0.1"]))
    assert [found["host"] for found in await resolver.resolve("evil.example", 443)] == ["8.8.8.8"]
    with pytest.raises(ForbiddenAddress):
        await resolver.resolve("evil.example", 443)


async def test_a_listed_name_may_be_private() -> None:
    resolver = CheckedResolver(Egress(("gateway.local:8080",)), Names(["10.1.2.3"]))
    assert [found["host"] for found in await resolver.resolve("gateway.local", 8080)] == ["10.1.2.3"]
    with pytest.raises(ForbiddenAddress):
        await resolver.resolve("gateway.local", 22)


async def test_names_that_nobody_answers_for_keep_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty customers' dead gateways beside one that is there: more than the loop has threads."""
    let_go = threading.Event()

    def look(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host.startswith("dead"):
            let_go.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    lookups = Lookups()
    async with asyncio.TaskGroup() as tasks:
        dead = [tasks.create_task(_refused(lookups, f"dead-{n}.example")) for n in range(30)]
        await asyncio.sleep(0)
        found = await lookups.resolve("alive.example", 443)
        assert not any(one.done() for one in dead)
        let_go.set()
    assert [(one["host"], one["port"]) for one in found] == [("93.184.216.34", 443)]
    assert all(one.result() for one in dead)
    await lookups.close()


async def _refused(lookups: Lookups, host: str) -> bool:
    with pytest.raises(socket.gaierror):
        await lookups.resolve(host, 443)
    return True
