"""The process: start, configuration, control, the witness log, faults, stop."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulated_providers import Simulator, eventually, receiver, simulator

NUMBER = {"kind": "meta", "id": "1", "token": "T"}
HEADER = {"Authorization": "Bearer T"}


def text(to: str, **more: Any) -> dict[str, Any]:
    body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "Olá"}}
    return {**body, **more}


async def send(running: Simulator, to: str, **more: Any) -> tuple[int, Any]:
    return await running.call("POST", "/v23.0/1/messages", text(to, **more), HEADER)


async def fates(folder: Path, seed: int) -> list[str]:
    shares = {"throttled_share": 0.3, "error_share": 0.3}
    async with simulator(folder, {"numbers": [NUMBER], "faults": shares}, "--seed", str(seed)) as running:
        people = [f"553199999{i:04d}" for i in range(30)]
        await asyncio.gather(*(send(running, to) for to in people))
        lines = await eventually(lambda: len(x := running.lines("request_open")) == 30 and x)
    return [line["fate"] for line in sorted(lines, key=lambda line: str(line["to"]))]


async def test_runs_with_one_seed_reproduce_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    folders = [tmp_path / str(run) for run in range(3)]
    for folder in folders:
        folder.mkdir()
    first, second, other = [await fates(folder, seed) for folder, seed in zip(folders, (5, 5, 6), strict=True)]
    assert first == second
    assert first != other
    assert {"accepted", "throttled", "5xx"} == set(first)


async def test_the_log_has_one_opening_and_one_closing_line_for_each_request(tmp_path: Path) -> None:
    async with (
        receiver() as hooks,
        simulator(tmp_path, {"numbers": [{**NUMBER, "callback_url": hooks.url}]}, "--time-scale", "20") as running,
    ):
        status, answer = await send(running, "5531999990002", biz_opaque_callback_data="d:1")
        assert status == 200
        await eventually(lambda: len(running.lines("webhook")) == 3)
        (opened,) = running.lines("request_open")
        (closed,) = running.lines("request_closed")
        wamid = answer["messages"][0]["id"]
        expected = {
            "provider": "meta", "number": "1", "to": "5531999990002", "person": "553199990002", "kind": "text",
            "label": "d:1", "fate": "accepted", "code": None, "accepted": True, "message_id": wamid,
            "outcome": "read", "template": None,
        }  # fmt: skip
        assert {name: opened[name] for name in expected} == expected
        assert len(opened["text_sha"]) == len(opened["body_sha"]) == 16
        assert closed["request"] == opened["request"]
        assert (closed["http_status"], closed["answered"], closed["how"]) == (200, True, "answered")
        assert closed["mono_ns"] >= opened["mono_ns"]
        assert [line["items"] for line in running.lines("webhook")] == [
            [[wamid, status]] for status in ("sent", "delivered", "read")
        ]
    assert next(iter(running.lines()))["event"] == "started"
    assert running.lines()[-1]["event"] == "stopped"


async def test_a_killed_clients_request_stays_visible_as_open_until_it_leaves(tmp_path: Path) -> None:
    async with simulator(tmp_path, {"numbers": [NUMBER]}) as running:
        code = (
            "import urllib.request as u, sys; u.urlopen(u.Request(sys.argv[1], data=sys.argv[2].encode(),"
            " headers={'Authorization': 'Bearer T', 'Content-Type': 'application/json'}))"
        )
        url, body = f"{running.url}/v23.0/1/messages", json.dumps(text("5531999660007"))
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, body)
        (opened,) = await eventually(lambda: running.lines("request_open"))
        assert not running.lines("request_closed")
        client.kill()
        await client.wait()
        (closed,) = await eventually(lambda: running.lines("request_closed"))
        assert (closed["request"], closed["how"]) == (opened["request"], "client_gone")


async def test_faults_can_be_set_for_all_and_for_one_number_at_run_time(tmp_path: Path) -> None:
    numbers = [NUMBER, {**NUMBER, "id": "2"}]
    async with simulator(tmp_path, {"numbers": numbers}) as running:
        await running.control("PUT", "faults", {"transient_share": 1})
        assert (await send(running, "5531999990001"))[0] == 503
        await running.control("PUT", "faults/1", {"transient_share": 0, "rejected_share": 1})
        assert (await send(running, "5531999990001"))[1]["error"]["code"] == 131026
        await running.control("PUT", "faults", {})
        await running.control("PUT", "faults/1", {})
        assert (await send(running, "5531999990001"))[0] == 200
        status, answer = await running.call("PUT", "/_control/faults", {"nonsense": 1})
        assert status == 400
        assert "nonsense" in answer["error"]
        await eventually(lambda: len(running.lines("control", what="faults_set")) == 4)


async def test_lost_doubled_and_garbled_by_share(tmp_path: Path) -> None:
    async with (
        receiver() as hooks,
        simulator(tmp_path, {"numbers": [{**NUMBER, "callback_url": hooks.url}]}, "--time-scale", "50") as running,
    ):
        await running.control("PUT", "faults", {"webhook_duplicate_share": 1})
        await send(running, "5531999990001")
        await eventually(lambda: len(hooks.statuses()) == 6)
        await running.control("PUT", "faults", {"webhook_lost_share": 1, "garbled_share": 1})
        status, answer = await send(running, "5531999990003")
        assert (status, isinstance(answer, str)) == (200, True)
        await eventually(lambda: len(running.lines("webhook_lost")) == 3)
        assert len(hooks.statuses()) == 6


async def test_reset_forgets_messages_and_voids_what_was_planned(tmp_path: Path) -> None:
    async with (
        receiver() as hooks,
        simulator(
            tmp_path, {"numbers": [{**NUMBER, "callback_url": hooks.url, "behaviour": {"sent_after_s": [3, 3]}}]}
        ) as running,
    ):
        await send(running, "5531999990001")
        await running.control("POST", "reset")
        assert (await running.control("GET", "messages?phone=5531999990001"))["messages"] == []
        assert (await running.control("GET", "stats"))["numbers"]["1"]["fates"] == {}
        await running.control("PATCH", "numbers/1", {"behaviour": {"sent_after_s": [0, 0]}})
        await send(running, "5531999660010")
        await eventually(lambda: hooks.statuses())
        assert len(hooks.statuses()) == 1


async def test_the_callback_handshake_can_be_asked_for(tmp_path: Path) -> None:
    async with (
        receiver() as hooks,
        simulator(
            tmp_path, {"numbers": [{**NUMBER, "callback_url": f"{hooks.url}/hook", "verify_token": "v"}]}
        ) as running,
    ):
        assert (await running.control("POST", "verify", {"number": "1"}))["ok"] is True


async def test_termination_lets_open_requests_finish(tmp_path: Path) -> None:
    async with simulator(tmp_path, {"numbers": [NUMBER], "faults": {"latency_ms": 700}}) as running:
        sending = asyncio.ensure_future(send(running, "5531999990001"))
        await eventually(lambda: running.lines("request_open"))
        running.process.send_signal(signal.SIGTERM)
        assert (await sending)[0] == 200
        assert await asyncio.to_thread(running.process.wait, 10) == 0


@pytest.mark.parametrize(
    "config", [{"numbers": [{"kind": "fax"}]}, {"nothing": 1}, {"settings": {"time_scale": 0}}, {"faults": {"x": 1}}]
)
def test_a_wrong_configuration_is_refused_with_its_reason(tmp_path: Path, config: dict[str, Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "provider_simulator", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("provider-simulator: ")
    assert "Traceback" not in done.stderr


async def test_another_hosts_plain_addresses_can_be_allowed_at_the_start(tmp_path: Path) -> None:
    zapi = {"kind": "zapi", "id": "3A", "token": "t"}
    key = {"Client-Token": "zapi-client-token"}
    async with simulator(tmp_path, {"numbers": [zapi]}, "--plain-host", "webhook-ingest") as running:
        for host, status in (("webhook-ingest:8081", 200), ("127.0.0.1:1", 200), ("elsewhere.example", 400)):
            hook = {"value": f"http://{host}/x"}
            path = "/instances/3A/token/t/update-webhook-delivery"
            assert (await running.call("PUT", path, hook, key))[0] == status


async def test_broken_and_pipelined_requests_do_not_disturb_others(tmp_path: Path) -> None:
    async with simulator(tmp_path, {"numbers": [NUMBER]}) as running:
        host, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        one = b"GET /_control/health HTTP/1.1\r\nhost: x\r\n\r\n"
        writer.write(one + one)
        answers = b""
        while answers.count(b'"status":"ok"') < 2:
            answers += await reader.read(4096)
        writer.write(b"NONSENSE\r\n\r\n")
        assert b"400 Bad Request" in await reader.read(4096)
        writer.close()
        status, _ = await running.call("POST", "/v23.0/1/messages", "not an object", HEADER)
        assert status == 400
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{running.url}/v23.0/1/messages", data=b"{", headers=HEADER) as response,
        ):
            assert (await response.json())["error"]["code"] == 100
        assert (await running.control("GET", "health"))["status"] == "ok"
        assert running.lines("crashed") == []
