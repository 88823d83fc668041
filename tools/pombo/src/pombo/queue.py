"""`pombo queue …` and `pombo hold …`: what waits, what failed for good, and what is stopped by hand."""

from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pombo.client.api import Api
from pombo.login import saved_api

QUEUE = "/api/whatsapp/queue/stats"
PREVIEW = "/api/whatsapp/queue/dead-letters/preview"
FATES = {
    "released": "tried again as soon as its number may",
    "after_resume": "tried again once its campaign is resumed",
    "campaign_reopened": "tried again; its campaign, which has ended, runs again",
    "cancelled": "not tried: its campaign was cancelled",
    "final": "not tried: the reason cannot pass",
}
app = typer.Typer(no_args_is_help=True, help="The queue: figures, dead letters, what is stuck.")
holds_app = typer.Typer(no_args_is_help=True, help="Kill-switches: nothing that one covers leaves while it is set.")
console = Console()

Campaign = Annotated[UUID | None, typer.Option(help="only of this campaign")]
Instance = Annotated[str | None, typer.Option(help="only of this number, by name or id")]
Reason = Annotated[str | None, typer.Option(help="only those that failed for this, for example provider_busy")]
Job = Annotated[list[UUID] | None, typer.Option(help="only this message, by its id; again for more")]
Webhooks = Annotated[bool, typer.Option("--webhooks", help="webhooks that could not be translated, not messages")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="without asking")]
Template = Annotated[str | None, typer.Option(help="messages of this template")]
Number = Annotated[str | None, typer.Option("--instance", help="this number, by name or id")]
Everything = Annotated[bool, typer.Option("--account", help="everything of the account")]


@app.command()
def stats(instance: Instance = None) -> None:
    """What waits, what is under way, what failed for good: in all and by number."""
    with saved_api() as api:
        params = {"instanceId": _instance_id(api, instance)} if instance else {}
        found = api.get(QUEUE, params=params)
    table = Table("number", "pending", "processing", "dead", "unresolved", "oldest", "per minute", "24 h", "breaker")
    for row in found["instances"]:
        limit = row["window_limit"]
        window = f"{row['window_used']}" + (f" of {limit}" if limit else "")
        breaker = " until ".join(str(part) for part in (row["breaker"], row["breaker_until"]) if part) or "–"
        table.add_row(escape(row["name"] or row["instance_id"] or "none"), *_figures(row), window, escape(breaker))
    table.add_row("all", *_figures(found["campaigns"]), "", "", style="bold")
    console.print(table)
    if unread := found["webhooks"].get("dead_letters"):
        console.print(f"{unread} webhooks could not be translated: pombo queue preview --webhooks", highlight=False)


@app.command()
def preview(
    campaign: Campaign = None, instance: Instance = None, reason: Reason = None, job: Job = None,
    webhooks: Webhooks = False,
) -> None:  # fmt: skip
    """What `retry` with the same options would do. Changes nothing."""
    with saved_api() as api:
        _show(api.post(PREVIEW, json=_filter(api, campaign, instance, reason, job, webhooks=webhooks)))


@app.command()
def retry(
    campaign: Campaign = None, instance: Instance = None, reason: Reason = None, job: Job = None, yes: Yes = False,
    webhooks: Webhooks = False,
) -> None:  # fmt: skip
    """Try dead letters again: shows what would happen, asks, and orders it."""
    with saved_api() as api:
        chosen = _filter(api, campaign, instance, reason, job, webhooks=webhooks)
        found = api.post(PREVIEW, json=chosen)
        _show(found)
        if found["again"] == 0:
            raise typer.Exit(1)
        if not yes:
            typer.confirm(f"Try {found['again']} again?", abort=True)
        api.post(QUEUE, json={"action": "retry_dlq"} | chosen)
    console.print("Ordered.")


@app.command()
def clear(
    campaign: Campaign = None, instance: Instance = None, reason: Reason = None, job: Job = None, yes: Yes = False,
    webhooks: Webhooks = False,
) -> None:  # fmt: skip
    """Give dead letters up: they leave the queue, stay failed in their campaign's figures, and are not tried again."""
    with saved_api() as api:
        chosen = _filter(api, campaign, instance, reason, job, webhooks=webhooks)
        found = api.post(PREVIEW, json=chosen)
        count = sum(group["count"] for group in found["groups"])
        if count == 0:
            console.print("No dead letters.")
            raise typer.Exit(1)
        if not yes:
            typer.confirm(f"Give {count} up for good?", abort=True)
        api.post(QUEUE, json={"action": "clear"} | chosen)
    console.print("Ordered.")


@app.command("recover-stuck")
def recover_stuck() -> None:
    """Look now for what was released and has no outcome, as is done every minute. Nothing is sent twice by it."""
    with saved_api() as api:
        api.post(QUEUE, json={"action": "recover_stuck"})
    console.print("Ordered.")


@app.command()
def unresolved(campaign: Campaign = None, instance: Instance = None) -> None:
    """Messages of which nobody can tell whether they were sent: `decide` takes a person's word on each."""
    with saved_api() as api:
        params = {"campaign_id": str(campaign)} if campaign else {}
        params |= {"instance_id": _instance_id(api, instance)} if instance else {}
        found = list(api.pages("/api/whatsapp/queue/unresolved", **params))
    table = Table("message", "since", "to", "name", "attempt", "what")
    for row in found:
        what = (row["content"] or row["content_type"] or "")[:40]
        to, name = row["phone_number"] or "–", row["name"] or ""
        table.add_row(row["id"], row["since"][:19], to, escape(name), str(row["attempt"]), escape(what))
    console.print(table)


@app.command("possibly-twice")
def possibly_twice(campaign: Campaign = None) -> None:
    """Messages that may have arrived more than once: sent again although nobody knew of the attempt before."""
    with saved_api() as api:
        only = {"campaign_id": str(campaign)} if campaign else {}
        found = list(api.pages("/api/whatsapp/queue/possibly-twice", **only))
    table = Table("message", "campaign", "to", "name", "attempts", "state")
    for row in found:
        to, name = row["phone_number"] or "–", row["name"] or ""
        table.add_row(row["id"], row["campaign_id"] or "–", to, escape(name), str(row["attempt"]), row["state"])
    console.print(table if found else "None.")


@app.command()
def decide(
    dispatch: Annotated[UUID, typer.Argument(help="an unresolved message")],
    decision: Annotated[str, typer.Argument(help="was_sent, send_again or give_up")],
) -> None:
    """A person's word on a message of which nobody can tell whether it was sent."""
    with saved_api() as api:
        api.post(f"/api/whatsapp/queue/unresolved/{dispatch}", json={"decision": decision})
    console.print("Decided.")


@holds_app.command("list")
def list_holds() -> None:
    """What is held now: by whom, since when, and why. Templates that their provider stopped are among it."""
    with saved_api() as api:
        holds = api.get("/api/holds")
    held, stopped = ([hold for hold in holds if hold.get(name)] for name in ("held", "stopped_reason"))
    table = Table("scope", "what", "since", "by", "why", "heeded")
    for hold in held:
        who = hold["set_by_name"] or hold["set_by"] or "the installation"
        cells = (hold["scope"], hold["key"] or "–", hold["set_at"], who, hold["reason"] or "–")
        table.add_row(*map(escape, cells), "yes" if hold["effective"] else "not yet")
    for hold in stopped:
        cells = ("template", hold["key"], hold["stopped_at"], "its provider", hold["stopped_text"])
        table.add_row(*map(escape, cells), "yes")
    console.print(table if held or stopped else "Nothing is held.")


@holds_app.command("set")
def set_hold(
    reason: Annotated[str, typer.Option(help="why, for whoever finds it")],
    account: Everything = False,
    instance: Number = None,
    template: Template = None,
) -> None:
    """Stop everything, a number or a template, now. Says when the sender heeds it."""
    _change(account, instance, template, held=True, reason=reason)


@holds_app.command("release")
def release_hold(
    account: Everything = False,
    instance: Number = None,
    template: Template = None,
    reason: Annotated[str, typer.Option(help="why it may go on")] = "",
) -> None:
    """Let it go on."""
    _change(account, instance, template, held=False, reason=reason)


def _change(account: bool, instance: str | None, template: str | None, *, held: bool, reason: str) -> None:
    if sum((account, instance is not None, template is not None)) != 1:
        raise typer.BadParameter("name one of --account, --instance and --template")
    with saved_api() as api:
        scope = "account" if account else "instance" if instance else "template"
        key = _instance_id(api, instance) if instance else template or ""
        hold = api.put("/api/holds", json={"scope": scope, "key": key, "held": held, "reason": reason})
    if not hold["effective"]:
        console.print("[yellow]Ordered; the sender has not heeded it yet. See: pombo hold list[/]")
        raise typer.Exit(1)
    console.print("held: only what was on its way already can still arrive" if held else "released")


def _filter(
    api: Api,
    campaign: UUID | None,
    instance: str | None,
    reason: str | None,
    jobs: list[UUID] | None,
    *,
    webhooks: bool,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {"queue": "webhooks"} if webhooks else {}
    if campaign:
        chosen["campaign_id"] = str(campaign)
    if instance:
        chosen["instance_id"] = _instance_id(api, instance)
    if reason:
        chosen["reason"] = reason
    if jobs:
        chosen["jobIds"] = [str(job) for job in jobs]
    return chosen


def _instance_id(api: Api, wanted: str) -> str:
    for instance in api.pages("/api/instances"):
        if wanted in (instance["id"], instance["name"]):
            return str(instance["id"])
    raise typer.BadParameter(f"no instance is called {wanted!r}")


def _show(found: dict[str, Any]) -> None:
    if not found["groups"]:
        console.print("No dead letters.")
        return
    table = Table("how many", "failed for", "campaign", "what would happen")
    for group in found["groups"]:
        reason, campaign = escape(group["reason"] or "–"), group["campaign_id"] or "–"
        table.add_row(str(group["count"]), reason, campaign, FATES[group["fate"]])
    console.print(table)
    console.print(f"{found['again']} would be tried again.", highlight=False)


def _figures(row: dict[str, Any]) -> tuple[str, ...]:
    oldest = "–" if row["oldest_age_s"] is None else f"{row['oldest_age_s']:.0f} s"
    counts = (str(row[name]) for name in ("pending", "processing", "dead_letters", "unresolved"))
    return (*counts, oldest, str(row["rate"]))
