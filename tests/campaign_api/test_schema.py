"""Whatever the document allows is asked of the running application: no crash, and answers as the document says."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import schemathesis
import uvicorn
from hypothesis import Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from campaign_parts import Person, bench
from pombo.backing import Database

pytestmark = pytest.mark.postgres
EXAMPLES = 6  # for each operation: a hundred operations within a minute
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = ["/api/events"]
# Asks the scheduler, whom nobody plays here: a 504, which its own test expects.
UNANSWERED = ["/api/whatsapp/queue/dead-letters/preview"]
CONVERSATION = """
INSERT INTO projections_g1.conversation (account_id, id, phone, first_at, last_at, last_in_at)
VALUES ($1, $2, '5511988880000', now(), now(), now())
"""


@dataclass(slots=True)
class Served:
    """The application on a socket of its own. `known`: ids of things that exist, by what their address ends with."""

    url: str = ""
    token: str = ""
    known: dict[str, list[str]] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)
    end: threading.Event = field(default_factory=threading.Event)

    async def serve(self, database: Database) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with bench(database, answer_wait_s=0.02, pause_wait_s=0.02) as api:
            ana = await api.admin()
            self.known = await _things(ana, database)
            server = uvicorn.Server(uvicorn.Config(api.application.door, port=port, log_config=None, lifespan="off"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.serve())
                while not server.started:
                    await asyncio.sleep(0.01)
                self.url, self.token = f"http://127.0.0.1:{port}", ana.client.headers["authorization"]
                self.ready.set()
                await asyncio.to_thread(self.end.wait)
                server.should_exit = True


async def _things(ana: Person, database: Database) -> dict[str, list[str]]:
    campaigns = [await ana.campaign(is_draft=number % 2 == 0) for number in range(8)]
    conversation_id = str(uuid4())
    connection = await asyncpg.connect(database.admin_dsn)
    await connection.execute(CONVERSATION, ana.account_id, conversation_id)
    await connection.close()

    async def made(path: str, own: str, **body: Any) -> list[str]:
        answers = [await ana.client.post(path, json=body | {own: f"{own} {n}"}) for n in range(3)]
        return [answer.json()["id"] for answer in answers]

    upload = await ana.client.post("/api/uploads", files={"file": ("a.csv", b"nome,telefone\nAna,11988880000\n")})
    return {
        "/campaigns/{campaign_id}": [one["id"] for one in campaigns],
        "/instances/{instance_id}": [one["api_config_id"] for one in campaigns],
        "/contacts/{contact_id}": await made("/api/contacts", "name", phone_number="11988880000"),
        "/conversations/{conversation_id}": [conversation_id],
        "/uploads/{upload_id}": [upload.json()["id"]],
        "/products/{row_id}": await made("/api/products", "name"),
        "/tasks/{row_id}": await made("/api/tasks", "title"),
        "/groups/{row_id}": await made("/api/groups", "name"),
        "/canned-answers/{row_id}": await made("/api/canned-answers", "shortcut", text="Olá"),
        "/imports/{import_id}": [one["id"] for one in campaigns],
    }


@pytest.fixture(scope="module")
def served(api_database: Database) -> Iterator[Served]:
    """In a thread of its own: what is generated asks synchronously."""
    made = Served()
    thread = threading.Thread(target=lambda: asyncio.run(made.serve(api_database)))
    thread.start()
    try:
        assert made.ready.wait(60)
        yield made
    finally:
        made.end.set()
        thread.join(30)


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    loaded = schemathesis.openapi.from_url(f"{served.url}/api/openapi.json", timeout=60).exclude(
        path=[*ENDLESS, *UNANSWERED]
    )
    turn = count()

    @loaded.hook
    def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """Ids that exist, in turn: else every answer would be 404."""
        for place, ids in served.known.items():
            name = place.split("{")[1].rstrip("}")
            if parameters and ids and place in context.operation.path and name in parameters:
                parameters[name] = ids[next(turn) % len(ids)]
        return parameters

    return loaded


def _faults(operation: Any, served: Served) -> list[str]:
    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": served.token}, checks=CHECKS)

    try:
        ask()
    except (FailureGroup, Failure) as failure:
        failures = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
        return [f"{operation.label}: {one}" for one in failures]
    return []


def test_answers_are_what_the_document_says(document: Any, served: Served) -> None:
    """What takes things away comes last."""
    operations = sorted((found.ok() for found in document.get_all_operations()), key=lambda one: one.method == "delete")
    assert len(operations) > 80
    faults = [fault for operation in operations for fault in _faults(operation, served)]
    assert faults == [], "\n\n".join(faults)
