"""Which connections of a stack go through a proxy, and what the services are told so that they do."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pombo.backing import Door
from pombo.backing.folders import HOST, kept_port
from pombo.chaos.proxies import Link
from pombo.stack import Service
from pombo.stack.services import Addresses
from pombo.stack.stack import SIMULATOR

PROVIDER = "provider"  # sender → simulator
WEBHOOKS = "webhooks"  # simulator → webhook-ingest


def kafka_link(service: Service) -> str:
    return f"kafka/{service.value}"


def postgres_link(service: Service) -> str:
    return f"postgres/{service.value}"


class Detours:
    """Every port of one data folder that a proxy stands in front of. Ports stay with the folder."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)

        def port(name: str) -> int:
            return kept_port(data_dir, name)

        self.doors = {_door(service): Door(port(_door(service)), port(kafka_link(service))) for service in Service}
        self._kafka_port = port("kafka")
        self._postgres = Link("postgres", 0, port("postgres"))
        self._provider = Link(PROVIDER, port(PROVIDER), port(SIMULATOR))
        self._webhooks = Link(WEBHOOKS, port(WEBHOOKS), port(Service.WEBHOOK_INGEST.value))
        self._of_service = {
            service: (
                Link(kafka_link(service), port(kafka_link(service)), self.doors[_door(service)].port),
                replace(self._postgres, name=postgres_link(service), port=port(postgres_link(service))),
            )
            for service in Service
        }

    @property
    def links(self) -> tuple[Link, ...]:
        return (self._provider, self._webhooks, *(link for links in self._of_service.values() for link in links))

    def reroute(self, service: Service, told: Mapping[str, str]) -> Mapping[str, str]:
        """The environment of a service with the proxies' ports instead of the real ones."""
        kafka, postgres = self._of_service[service]
        ports = {
            self._kafka_port: kafka.port,
            postgres.target_port: postgres.port,
            self._provider.target_port: self._provider.port,
            self._webhooks.target_port: self._webhooks.port,
        }
        return {name: _replaced(value, ports) for name, value in told.items()}

    def seen_from_outside(self, addresses: Addresses) -> Addresses:
        """What is written into instances and given to the simulator."""
        return replace(addresses, webhook_port=self._webhooks.port, simulator_port=self._provider.port)


def _door(service: Service) -> str:
    return service.name.replace("_", "")


def _replaced(value: str, ports: Mapping[int, int]) -> str:
    for real, proxy in ports.items():
        value = value.replace(f"{HOST}:{real}", f"{HOST}:{proxy}")
    return value
