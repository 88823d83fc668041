"""One campaign from a spreadsheet to its end: paused and resumed, its sender killed, a read model rebuilt meanwhile."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.demo import settings
from pombo.demo.account import Login
from pombo.demo.fleet import NumberPlan, PoolNumber, add_number
from pombo.demo.progress import Progressing, done_count
from pombo.demo.record import ClockLog
from pombo.demo.spreadsheet import Spreadsheet
from pombo.stack import Service, Stack

POLL_S = 0.2
TIME_ZONE = "America/Sao_Paulo"
ENDED = ("completed", "failed", "cancelled")


class Stuck(Exception):
    """What was waited for did not come; the text says what and where the logs are."""


@dataclass(slots=True)
class Faults:
    """What happens on the way, at which share of recipients that are done; None = never."""

    kill_at: float | None = 0.2
    pause_at: float | None = 0.5
    rebuild_at: float | None = 0.55
    pause_s: float = 4.0


@dataclass(slots=True)
class Run:
    """What one campaign's run knows of itself."""

    stack: Stack
    api: Api
    simulator: Simulator
    login: Login
    show: Progressing
    log: ClockLog
    campaign_id: str = ""
    pool: list[PoolNumber] = field(default_factory=list)
    rebuild: "subprocess.Popen[str] | None" = None

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/api/campaigns/{self.campaign_id}/statistics")
        self.show.show(found)
        return found


def add_pool(run: Run, plans: list[NumberPlan]) -> None:
    for plan in plans:
        run.pool.append(add_number(plan, run.api, run.simulator, run.stack.addresses))
    run.show.say(f"{len(plans)} numbers: " + ", ".join(plan.kind for plan in plans))


def create_campaign(run: Run, sheet: Spreadsheet, name: str = "Cupons da Aura") -> dict[str, Any]:
    """Upload, then create and start in one call; what was promised is written down for the audit."""
    file = run.stack.folder.path / "contatos.csv"
    file.write_bytes(sheet.content)
    began_s = time.monotonic()
    upload = run.api.upload(file)
    policy = dict(settings.POLICY) | allowed_hours(datetime.now(ZoneInfo(TIME_ZONE)))
    body = {
        "name": name,
        "is_draft": False,
        "instance_pool": [number.instance_id for number in run.pool],
        "messages": [
            {"content_type": "text", "content": text, "order_index": index} for index, text in enumerate(settings.STEPS)
        ],
        "upload_id": upload["id"],
        "sending_configuration": policy,
    }
    run.log.note("start_requested")
    campaign: dict[str, Any] = run.api.post("/api/campaigns", json=body)
    run.log.note("started", campaign_id=campaign["id"])
    run.campaign_id = campaign["id"]
    write_plan(run, sheet.people, policy)
    audience = campaign.get("audience") or {}
    run.show.say(
        f"{sheet.rows} rows imported in {time.monotonic() - began_s:.1f} s:"
        f" {audience.get('total_contacts')} people, {audience.get('rejected')} rows rejected"
        f" (made: {sheet.bad_rows} bad, {sheet.duplicates} duplicates)"
    )
    return campaign


def allowed_hours(now: datetime) -> dict[str, Any]:
    """A window around now, over midnight if need be: a rule that holds, so that the audit has one to check."""
    return {
        "allowed_hours_start": (now - timedelta(hours=2)).strftime("%H:%M:00"),
        "allowed_hours_end": (now + timedelta(hours=3)).strftime("%H:%M:00"),
        "time_zone": TIME_ZONE,
    }


def write_plan(run: Run, people: int, policy: dict[str, Any]) -> None:
    plan = {
        "campaign_id": run.campaign_id,
        "account_id": run.login.account_id,
        "people": people,
        "steps": list(settings.STEPS),
        "numbers": [number.as_json() for number in run.pool],
        "policy": policy,
    }
    run.stack.folder.plan.write_text(json.dumps(plan, indent=1))


def play(run: Run, faults: Faults, within_s: float) -> dict[str, Any]:
    """Watch to the end, with the faults on the way; the last statistics. Raises Stuck."""
    deadline_s = time.monotonic() + within_s
    todo: list[tuple[float, Callable[[], None]]] = []
    if faults.kill_at is not None:
        todo.append((faults.kill_at, lambda: kill_sender(run)))
    if faults.pause_at is not None:
        todo.append((faults.pause_at, lambda: pause_and_resume(run, faults.pause_s)))
    if faults.rebuild_at is not None:
        todo.append((faults.rebuild_at, lambda: begin_rebuild(run)))
    todo.sort(key=lambda fault: fault[0])
    while True:
        statistics = run.statistics()
        if statistics["status"] in ENDED:
            return statistics
        share = done_count(statistics) / max(1, statistics["total_contacts"])
        if todo and share >= todo[0][0]:
            todo.pop(0)[1]()
        check_alive(run)
        if time.monotonic() > deadline_s:
            raise Stuck(f"the campaign is {statistics['status']} after {within_s:.0f} s; logs: {run.stack.folder.logs}")
        time.sleep(POLL_S)


def check_alive(run: Run) -> None:
    if ended := run.stack.ended():
        raise Stuck(f"{', '.join(ended)} ended by itself; logs: {run.stack.folder.logs}")


def kill_sender(run: Run) -> None:
    """SIGKILL while the simulator holds requests without an answer, and a new process at once."""
    sender = run.stack.process(Service.SENDER)
    deadline_s = time.monotonic() + 20
    while (waiting := run.simulator.open_requests()) == 0:
        if time.monotonic() > deadline_s:
            raise Stuck("the simulator had no open request in 20 s: the sender could not be killed in one")
    pid = sender.pid
    sender.kill()
    run.log.note("sender_killed", open_requests=waiting, pid=pid)
    run.show.say(f"[red]sender {pid} killed[/] with {waiting} requests open at the provider")
    began_s = time.monotonic()
    run.stack.restart(Service.SENDER)
    run.log.note("sender_started")
    run.show.say(f"sender {sender.pid} ready again after {time.monotonic() - began_s:.1f} s")


def pause_and_resume(run: Run, pause_s: float) -> None:
    path = f"/api/campaigns/{run.campaign_id}"
    began_s = time.monotonic()
    run.log.note("pause_requested", campaign_id=run.campaign_id)
    status = run.api.put(f"{path}/pause")["campaign"]["status"]
    while status == "pausing":
        if time.monotonic() - began_s > 60:
            raise Stuck("the campaign did not become paused in 60 s")
        time.sleep(POLL_S)
        status = run.api.get(path)["status"]
    run.log.note("paused", campaign_id=run.campaign_id, status=status)
    run.show.say(f"[yellow]{status}[/] {time.monotonic() - began_s:.2f} s after the request")
    until_s = time.monotonic() + pause_s
    while time.monotonic() < until_s:
        run.statistics()
        time.sleep(POLL_S)
    run.log.note("resume_requested", campaign_id=run.campaign_id)
    run.api.put(f"{path}/resume")
    run.log.note("resumed", campaign_id=run.campaign_id)
    run.show.say("[green]resumed[/]")


def begin_rebuild(run: Run) -> None:
    run.rebuild = run.stack.background_command(Service.PROJECTIONS, "rebuild")
    run.log.note("rebuild_started")
    run.show.say("projections are being rebuilt from the log while messages go out")


def finish_rebuild(run: Run, within_s: float = 180.0) -> None:
    """Raises Stuck when it failed."""
    if run.rebuild is None:
        return
    log: Path = run.stack.folder.logs / "projections-rebuild.log"
    try:
        code = run.rebuild.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        run.rebuild.kill()
        raise Stuck(f"the rebuild did not end in {within_s:.0f} s; log: {log}") from None
    if code != 0:
        raise Stuck(f"the rebuild failed; log: {log}")
    run.log.note("rebuild_ended")
    run.show.say("the rebuilt read models took over")


def settle(run: Run, quiet_s: float = 2.0, within_s: float = 60.0) -> dict[str, Any]:
    """Wait until no webhook is under way and the figures stand still; the last statistics."""
    deadline_s = time.monotonic() + within_s
    last, since_s = run.statistics(), time.monotonic()
    while time.monotonic() < deadline_s and time.monotonic() - since_s < quiet_s:
        time.sleep(POLL_S)
        found, hooks = run.statistics(), run.simulator.stats()["webhooks"]
        if found != last or hooks["open"] or hooks["waiting"] or hooks["retrying"]:
            last, since_s = found, time.monotonic()
    return last
