"""`pombo campaign …`: a client of campaign-api, signed in once."""

import time
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pombo.client.api import Api
from pombo.demo.progress import Progressing, described
from pombo.demo.scenario import ENDED
from pombo.login import saved_api, sign_in

app = typer.Typer(no_args_is_help=True, help="Campaigns, through the API, as the person who is signed in.")
POLL_S = 0.5
SETTLED_MAX_S = 30.0
REJECTED_SHOWN = 5
console = Console()
CampaignId = Annotated[UUID, typer.Argument(help="the campaign's id, as create and list show it", show_default=False)]


def login(
    address: Annotated[str, typer.Argument(help="of campaign-api, for example http://127.0.0.1:8000")],
    email: Annotated[str, typer.Option(prompt=True)],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True)],
) -> None:
    """Sign in, for the commands that follow."""
    with Api(address) as api:
        role = sign_in(api, email, password)
    console.print(f"Signed in as {email} ({role})", highlight=False)


@app.command("list")
def list_all(status: Annotated[list[str] | None, typer.Option(help="only these states")] = None) -> None:
    """The account's campaigns, newest first."""
    table = Table("id", "name", "status", "people", "sent", "failed")
    table.columns[0].no_wrap = True
    with saved_api() as api:
        for campaign in api.pages("/api/campaigns", **({"status": status} if status else {})):
            counts = (str(campaign[name]) for name in ("total_contacts", "sent_count", "failed_count"))
            table.add_row(campaign["id"], escape(campaign["name"]), campaign["status"], *counts)
    if table.row_count:
        console.print(table)
    else:
        console.print("No campaigns. Make one: pombo campaign create --file people.csv --text 'Olá {{nome}}'")


@app.command()
def create(
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV or .xlsx of people")],
    text: Annotated[list[str], typer.Option(help="a step's text; again for each further step")],
    name: Annotated[str, typer.Option(help="what the campaign is called; default: the file's name")] = "",
    instance: Annotated[
        list[str] | None, typer.Option(help="name or id; again for a pool; default: all active")
    ] = None,
    min_delay_s: Annotated[float, typer.Option(min=0, help="between two messages of one number")] = 5,
    max_delay_s: Annotated[float, typer.Option(min=0)] = 15,
    start_now: Annotated[bool, typer.Option("--start", help="start it at once and watch")] = False,
) -> None:
    """A campaign from a file: uploaded, checked, created as a draft or started."""
    with saved_api() as api:
        pool = _pool(api, instance or [])
        body = {
            "name": name or file.stem,
            "instance_pool": pool,
            "messages": [{"content": content, "order_index": index} for index, content in enumerate(text)],
            "upload_id": api.upload(file)["id"],
            "sending_configuration": {"min_delay_seconds": min_delay_s, "max_delay_seconds": max_delay_s},
        }
        made = api.post("/api/campaigns", json=body)
        campaign = UUID(made["id"])
        _tell_audience(api, made)
        for warning in made["warnings"]:
            console.print(f"[yellow]{escape(warning)}[/]")
        if not made["total_contacts"]:
            raise typer.Exit(1)
        if start_now:
            api.post(f"/api/campaigns/{campaign}/start")
            _watch(api, campaign)
        else:
            console.print(f"A draft. See its plan: pombo campaign check {campaign}", highlight=False, soft_wrap=True)
            console.print(f"Start it: pombo campaign start {campaign}", highlight=False, soft_wrap=True)


@app.command()
def check(campaign: CampaignId) -> None:
    """What would be sent, from where and until when. Sends nothing."""
    with saved_api() as api:
        names = {instance["id"]: instance["name"] for instance in api.pages("/api/instances")}
        found = api.get(f"/api/campaigns/{campaign}/check")
    console.print(f"{found['total_contacts']} people, {found['total_messages']} messages", highlight=False)
    for instance_id, count in (found["by_instance"] or {}).items():
        console.print(f"  {count:>7}  {escape(names.get(instance_id, instance_id))}", highlight=False)
    if found["estimated_end"]:
        console.print(f"started now, it would end at about {found['estimated_end']}", highlight=False)
    for step in found["preview"]:
        console.print(f"[dim]to {step['phone_number']}:[/] {escape(step['content'])}", highlight=False)
    for variable, count in found["blank_variables"].items():
        console.print(f"[yellow]{{{{{escape(variable)}}}}} is blank for {count} people[/]", highlight=False)
    for said in (*found["warnings"], *found["problems"]):
        console.print(f"[yellow]{escape(said)}[/]")
    if not found["ready"]:
        lacking = f"it has no {' and no '.join(found['missing'])}" if found["missing"] else "mend what is said above"
        console.print(f"[red]It cannot start:[/] {lacking}")
        raise typer.Exit(1)


@app.command()
def start(campaign: CampaignId, watch_it: Annotated[bool, typer.Option("--watch/--no-watch")] = True) -> None:
    """Start a draft or scheduled campaign."""
    with saved_api() as api:
        made = api.post(f"/api/campaigns/{campaign}/start")
        if watch_it:
            _watch(api, campaign)
        else:
            console.print(made["campaign"]["status"])


@app.command()
def watch(campaign: CampaignId) -> None:
    """A bar until the campaign ends; Ctrl-C leaves it running."""
    with saved_api() as api:
        _watch(api, campaign)


@app.command()
def pause(campaign: CampaignId) -> None:
    """Nothing more is sent once this answers `paused`."""
    _act(campaign, "pause")


@app.command()
def resume(campaign: CampaignId) -> None:
    """Go on where it was paused."""
    _act(campaign, "resume")


@app.command()
def cancel(campaign: CampaignId) -> None:
    """End it; what is unsent ends as cancelled."""
    _act(campaign, "cancel")


@app.command()
def stats(campaign: CampaignId) -> None:
    """Its figures: of people, the same of messages below."""
    with saved_api() as api:
        found: dict[str, Any] = api.get(f"/api/campaigns/{campaign}/statistics")
    table = Table(show_header=False)
    for name, value in found.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {count}" for key, count in value.items() if count) or "–"
        else:
            shown = f"{value} %" if name.endswith("_rate") else "–" if value is None else str(value)
        table.add_row(name.replace("_count", "").replace("_", " "), shown)
    console.print(table)


def _act(campaign: UUID, action: str) -> None:
    """Waits out `pausing` and `cancelling`: the last requests under way."""
    with saved_api() as api:
        status = api.put(f"/api/campaigns/{campaign}/{action}")["campaign"]["status"]
        give_up = time.monotonic() + SETTLED_MAX_S
        while status in ("pausing", "cancelling") and time.monotonic() < give_up:
            time.sleep(POLL_S)
            status = api.get(f"/api/campaigns/{campaign}")["status"]
    console.print(status)


def _watch(api: Api, campaign: UUID) -> None:
    with Progressing(console) as show:
        while True:
            statistics = api.get(f"/api/campaigns/{campaign}/statistics")
            show.show(statistics)
            if statistics["status"] in ENDED:
                show.say(f"{statistics['status']}: {described(statistics)}")
                break
            time.sleep(POLL_S)
    if statistics["status"] == "failed":
        found = api.get(f"/api/campaigns/{campaign}")
        console.print(f"[red]{found['failure_reason']}[/] {escape(found['failure_detail'])}")
        console.print(f"Once that is mended: pombo campaign resume {campaign}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _tell_audience(api: Api, made: dict[str, Any]) -> None:
    people, rejected = made["total_contacts"], (made["audience"] or {}).get("rejected", 0)
    console.print(f"{made['id']}  {people} people, {rejected} rows rejected", highlight=False)
    if rejected:
        address = f"/api/imports/{made['id']}/rejected"
        for row in api.get(address, params={"limit": REJECTED_SHOWN}):
            console.print(f"  [yellow]row {row['row']}: {escape(row['reason'])}[/]", highlight=False)
        if rejected > REJECTED_SHOWN:
            console.print(f"  all of them: {api.address}{address}.csv", highlight=False, soft_wrap=True)


def _pool(api: Api, wanted: list[str]) -> list[str]:
    """Ids of the named instances; of all active ones where none is named. Raises BadParameter."""
    known = list(api.pages("/api/instances"))
    if not wanted:
        return [instance["id"] for instance in known if instance["is_active"] and instance["status"] == "active"]
    by_name = {instance["name"]: instance["id"] for instance in known} | {one["id"]: one["id"] for one in known}
    if missing := [name for name in wanted if name not in by_name]:
        names = ", ".join(sorted(repr(instance["name"]) for instance in known)) or "none"
        raise typer.BadParameter(f"no instance is called {', '.join(map(repr, missing))}; there are {names}")
    return [by_name[name] for name in wanted]
