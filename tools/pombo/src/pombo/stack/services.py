"""Which processes there are, and what each of them is told by its environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pombo.stack.secrets import Secrets

# The producer asks once for each partition of a batch, and one machine has no more readers than these.
PARTITIONS_MAX = 3


class Service(StrEnum):
    """The five services, by the name of their schema and module; the value is how people call them."""

    CAMPAIGN_API = "campaign-api"
    SCHEDULER = "scheduler"
    SENDER = "sender"
    WEBHOOK_INGEST = "webhook-ingest"
    PROJECTIONS = "projections"

    @property
    def module(self) -> str:
        return self.value.replace("-", "_")


TRANSLATOR = "webhook-translator"
# Every process by its name: whose it is, and its command. What webhook-ingest's door takes in, another one translates.
PROCESSES: Mapping[str, tuple[Service, str]] = {
    **{service.value: (service, "serve") for service in Service},
    TRANSLATOR: (Service.WEBHOOK_INGEST, "translate"),
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is reached, this run."""

    kafka_bootstrap: str
    roles: Mapping[str, str]  # database address of each role
    api_port: int
    webhook_port: int
    simulator_port: int

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def webhooks(self) -> str:
        return f"http://127.0.0.1:{self.webhook_port}"

    @property
    def simulator(self) -> str:
        return f"http://127.0.0.1:{self.simulator_port}"


def migration_environment(service: Service, addresses: Addresses) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": addresses.kafka_bootstrap,
        "KAFKA__PARTITIONS_MAX": str(PARTITIONS_MAX),
        "MIGRATION__OWNER_DSN": addresses.roles[f"{service.module}_owner"],
    }


def environment(service: Service, addresses: Addresses, secrets: Secrets, evolution_key: str) -> dict[str, str]:
    """Everything that this service's processes are told; nothing but settings makes one run differ from another."""
    shared = {
        "KAFKA__BOOTSTRAP": addresses.kafka_bootstrap,
        "KAFKA__PARTITIONS_MAX": str(PARTITIONS_MAX),
        "POSTGRES__DSN": addresses.roles[f"{service.module}_worker"],
    }
    match service:
        case Service.CAMPAIGN_API:
            own = {
                "WEB_DSN": addresses.roles["campaign_api_web"],
                "SECRETS__KEYS": secrets.sealing_keys,
                "TOKEN_KEYS": secrets.token_keys,
                "HTTP_PORT": str(addresses.api_port),
                "PUBLIC_URL": addresses.webhooks,
                "EVOLUTION_API_URL": addresses.simulator,
                "EVOLUTION_API_KEY": evolution_key,
                "SECURE_COOKIES": "false",
                "SIGN_UP": "true",
            }
        case Service.SENDER:
            own = {
                "SECRETS__KEYS": secrets.sealing_keys,
                "ALLOWED_HOSTS": json.dumps([f"127.0.0.1:{addresses.simulator_port}"]),
                "WEBHOOK_BASE_URL": addresses.webhooks,
            }
        case Service.WEBHOOK_INGEST:
            own = {
                "SECRETS__KEYS": secrets.sealing_keys,
                "HTTP_PORT": str(addresses.webhook_port),
                "VERIFY_TOKEN": secrets.verify_token,
                "TRUST_TRACEPARENT": "true",
            }
        case Service.SCHEDULER | Service.PROJECTIONS:
            own = {}
    return shared | own
