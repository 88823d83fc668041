"""The OpenAPI document has no gaps, and every kind of error is a problem."""

from typing import Any

import pytest

from campaign_parts import Bench, Person, bench

pytestmark = pytest.mark.postgres


@pytest.fixture
def document(api: Bench) -> dict[str, Any]:
    found: dict[str, Any] = api.application.door.openapi()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{method} {path}", one) for path, item in document["paths"].items() for method, one in item.items()]


def test_every_operation_has_a_tag_an_answer_with_a_schema_and_problems(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for name, operation in operations(document):
        assert operation["tags"], name
        good = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
        assert good, name
        for status, answer in good.items():
            content = answer.get("content", {})
            assert status == "204" or all(one.get("schema") for one in content.values()), name
            assert status == "204" or content, name
        for status in ("401", "422", "429"):
            answer = operation["responses"][status]
            assert list(answer["content"]) == ["application/problem+json"], (name, status)


def test_every_reference_leads_somewhere_and_every_name_is_one_operations(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    missing = {ref for ref in references(document) if ref.removeprefix("#/components/schemas/") not in schemas}
    assert missing == set()
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/api/nothing", None, 404),
        ("PATCH", "/api/campaigns", None, 405),
        ("POST", "/api/campaigns", b"{not json", 422),
        ("POST", "/api/campaigns", b"[]", 422),
        ("POST", "/api/campaigns", b'{"name": ""}', 422),
        ("POST", "/api/campaigns", b'{"name": "a\\u0000b"}', 422),
        ("GET", "/api/campaigns?cursor=nonsense", None, 400),
        ("GET", "/api/campaigns?search=%00", None, 400),
        ("GET", "/api/campaigns/not-a-uuid", None, 422),
        ("GET", "/api/campaigns?limit=0", None, 422),
        ("POST", "/api/campaigns", b'{"name": "x", "sending_configuration": {"min_delay_seconds": NaN}}', 422),
        (
            "POST",
            "/api/campaigns",
            b'{"name": "x", "sending_configuration": {"min_delay_seconds": 9, "max_delay_seconds": 1}}',
            422,
        ),
        ("POST", "/api/campaigns", b'{"name": "x", "sending_configuration": {"max_retries": -1}}', 422),
        ("POST", "/api/campaigns", b'{"name": "x", "sending_configuration": {"pause_after_messages": 0}}', 422),
        ("POST", "/api/campaigns", b'{"name": "x", "scheduled_at": "2020-01-01T00:00:00Z"}', 422),
        ("POST", "/api/campaigns", b'{"name": "x", "scheduled_at": "2030-01-01T00:00:00"}', 422),
        ("POST", "/api/campaigns", b'{"name": "x", "messages": [{"content_type": "image"}]}', 422),
        ("POST", "/api/campaigns", b"[" * 100_000, 400),
    ],
)
async def test_every_error_is_a_problem_with_the_plain_message(
    ana: Person, method: str, path: str, content: bytes | None, status: int
) -> None:
    headers = {"Content-Type": "application/json"} if content else {}
    answer = await ana.client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["error"] == problem["detail"]
    assert problem["status"] == status
    assert "Traceback" not in answer.text


async def test_a_body_above_the_cap_is_refused_before_it_is_read(api: Bench, ana: Person) -> None:
    cap = api.application.settings.json_max_bytes
    declared = await ana.client.post("/api/campaigns", content=b" " * (cap + 1))
    assert declared.status_code == 413

    async def endless() -> Any:
        for _ in range(cap // 1_000_000 + 2):
            yield b" " * 1_000_000

    assert (await ana.client.post("/api/campaigns", content=endless())).status_code == 413


async def test_limits_and_safety_are_in_the_headers(ana: Person) -> None:
    answer = await ana.client.get("/api/campaigns")
    assert "ratelimit" in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_noisy_account_is_slowed_and_its_neighbour_is_not(api: Bench, ana: Person, rival: Person) -> None:
    async with bench(api.database, requests_per_second=0.5) as slow:
        noisy = slow.client(ana.client.headers["authorization"].split()[1])
        quiet = slow.client(rival.client.headers["authorization"].split()[1])
        statuses = [(await noisy.get("/api/auth/me")).status_code for _ in range(8)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        assert (await quiet.get("/api/auth/me")).status_code == 200
