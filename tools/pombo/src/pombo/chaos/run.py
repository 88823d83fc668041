"""One run: campaigns, their scenario's faults, rest, and the material of the audit in a folder of its own."""

import asyncio
import json
import shutil
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pombo.audit.ledger import Recovery
from pombo.audit.witness import read_witness
from pombo.chaos import evidence
from pombo.chaos.campaigns import Account, Started, start_campaign
from pombo.chaos.event_log import EventLog
from pombo.chaos.faults import ambiguity_allowed, described
from pombo.chaos.keeper import Keeper
from pombo.chaos.nemesis import Nemesis
from pombo.chaos.proxies import Proxies
from pombo.chaos.schedule import Scenario
from pombo.chaos.settings import USUAL_FAULTS
from pombo.chaos.stalls import Stalls
from pombo.client.simulator import Simulator
from pombo.demo.collect import steady_answers
from pombo.demo.isolation import Canary
from pombo.demo.record import ClockLog
from pombo.demo.scenario import Stuck
from pombo.stack import RunFolder, Stack

TICK_S = 0.1
LOOK_EVERY_S = 0.5
QUIET_S = 1.5
STILL_S = 2.0
STUCK_S = 180.0
# A run that is still not at rest after so many bounds is given up and told as it is.
BOUNDS_WAITED = 2


@dataclass(slots=True)
class System:
    """The running stack with everything that runs share. `pace`: messages a second of the slowest number, measured
    without faults."""

    stack: Stack
    proxies: Proxies
    keeper: Keeper
    simulator: Simulator
    accounts: list[Account]
    canary: Canary
    events: EventLog
    pace: float = 5.0
    messages: int = 0
    stalls: Stalls = field(default_factory=Stalls)
    log_places: dict[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Played:
    """What the run's own clock saw."""

    at: str
    took_s: float
    recovery: Recovery
    notes: list[str]
    died: dict[str, int]
    stalled_s: float
    timeline: list[str]


def play(system: System, scenario: Scenario, folder: RunFolder) -> Played:
    """The campaigns from their start to rest, or to the end of patience; then the material of the audit."""
    began_s, at = time.monotonic(), datetime.now().astimezone().isoformat(timespec="seconds")
    log = ClockLog(folder.clock)
    witness_from, stalled_before_s = _witness_size(system), system.stalls.total_s
    system.events.begin_run()
    system.keeper.died.clear()
    arrived_before = _arrived(system)
    campaigns = _start(system, scenario, folder, log)
    nemesis = Nemesis(system.keeper, system.proxies, system.simulator, USUAL_FAULTS, campaigns, log)
    try:
        _go_through(system, scenario, campaigns, nemesis, arrived_before)
    finally:
        _close(system, nemesis)
    log.note("healed")
    recovery = _recover(system, campaigns, time.monotonic())
    log.note("at_rest" if recovery.at_rest else "given_up")
    stalled_s, died = system.stalls.total_s - stalled_before_s, dict(system.keeper.died)
    (folder.path / "plans.json").write_text(json.dumps([campaign.plan() for campaign in campaigns]))
    system.messages += sum(campaign.messages for campaign in campaigns)
    took_s = time.monotonic() - began_s
    _copy_witness(system, folder, witness_from)
    collect(system, scenario, folder, campaigns, recovery)
    return Played(at, took_s, recovery, nemesis.notes, died, round(stalled_s, 1), nemesis.timeline)


def measure_pace(system: System, folder: RunFolder, people: int) -> float:
    """Messages a second of the slowest number without faults, but for its first and its last ones: a number that may
    have one request open sends a tenth of what the others do, and people are shared evenly among all."""
    log, witness_from = ClockLog(folder.clock), _witness_size(system)
    account = system.accounts[0]
    campaign = start_campaign(account, folder, log, people=people, seed=0, at_least_once=False)
    recovery = _recover(system, [campaign], time.monotonic())
    if not recovery.at_rest:
        raise Stuck(f"a campaign of {people} people without any fault does not end; logs: {system.stack.folder.logs}")
    _copy_witness(system, folder, witness_from)
    asyncio.run(system.events.read_on(system.stack.backing.kafka_bootstrap, frozenset()))  # the first run begins here
    times_ns: dict[str, list[int]] = defaultdict(list)
    with folder.witness.open() as lines:
        for send in read_witness(lines).sends:
            times_ns[send.number].append(send.mono_ns)
    return max(1.0, min(_rate(sorted(times)) for times in times_ns.values()))


def _rate(times_ns: list[int]) -> float:
    inner = times_ns[len(times_ns) // 20 : len(times_ns) - len(times_ns) // 10]
    return (len(inner) - 1) * 1e9 / max(1, inner[-1] - inner[0])


def collect(
    system: System,
    scenario: Scenario,
    folder: RunFolder,
    campaigns: list[Started],
    recovery: Recovery,
) -> None:
    """Everything that the audit reads, as files of the run's folder."""
    answers = [steady_answers(campaign.account.api, campaign.campaign_id) for campaign in campaigns]
    folder.answers.write_text(json.dumps(answers))
    stores = asyncio.run(evidence.read_stores(system.stack, system.events, _ids_of_webhooks(folder.witness), campaigns))
    owner = campaigns[0].account
    other = system.accounts[1] if owner is system.accounts[0] else system.accounts[0]
    with ThreadPoolExecutor(max_workers=2) as threads:
        compared = threads.submit(evidence.compare, system.stack)
        audit_log = threads.submit(evidence.audit_log, system.stack)
        crossed = evidence.crossings(owner, other.api, system.canary, campaigns[0], answers[0]["recipients"])
    with folder.witness.open() as lines:
        sent_ns = sorted(send.mono_ns for send in read_witness(lines).sends)
    words = [account.word for account in system.accounts]
    facts = stores | {
        "compared": compared.result(),
        "calls": crossed.calls,
        "calls_between_accounts": crossed.found,
        "audit_log": audit_log.result(),
        "leaks": evidence.leaks(system.stack.folder.logs, words, system.log_places),
        "ambiguity_allowed": ambiguity_allowed(scenario.faults, sent_ns),
        "recovery": asdict(recovery),
        "rss_mib": system.keeper.rss_mib(),
    }
    (folder.path / "facts.json").write_text(json.dumps(facts))


def _start(system: System, scenario: Scenario, folder: RunFolder, log: ClockLog) -> list[Started]:
    """People are shared among the campaigns; the second account's canary stays where nobody writes to it."""
    share, rest = divmod(scenario.recipients, scenario.campaigns)
    return [
        start_campaign(
            system.accounts[index % len(system.accounts)],
            folder,
            log,
            people=share + (index < rest),
            seed=scenario.seed * 10 + index,
            at_least_once=scenario.at_least_once,
        )
        for index in range(scenario.campaigns)
    ]


def _go_through(
    system: System, scenario: Scenario, campaigns: list[Started], nemesis: Nemesis, arrived_before: int
) -> None:
    """Begins each fault when as many messages as planned have arrived at the providers."""
    expected = sum(campaign.messages for campaign in campaigns)
    todo = list(scenario.planned)
    arrived, looked_s, moved_s = 0, 0.0, time.monotonic()
    while todo or not nemesis.over:
        system.keeper.tick()
        now_s = time.monotonic()
        if now_s - looked_s > LOOK_EVERY_S:
            looked_s, seen = now_s, _arrived(system) - arrived_before
            if seen != arrived:
                arrived, moved_s = seen, now_s
            elif nemesis.over and now_s - moved_s > (STILL_S if _all_over(campaigns) else STUCK_S):
                break  # less of it was sent than planned (cancelled, refused): the moment of the others never comes
        while todo and arrived >= todo[0].at_share * expected:
            nemesis.begin(todo.pop(0).fault)
        time.sleep(TICK_S)
    nemesis.notes += [f"not begun: {described(planned.fault)}" for planned in todo]


def _all_over(campaigns: list[Started]) -> bool:
    return all(campaign.is_over(campaign.statistics()) for campaign in campaigns)


def _close(system: System, nemesis: Nemesis) -> None:
    """Faults that still run need `tick` for what they ask of the main thread."""
    while not nemesis.over:
        system.keeper.tick()
        time.sleep(TICK_S)
    nemesis.close()


def _recover(system: System, campaigns: list[Started], healed_s: float) -> Recovery:
    """Waits until every dispatch is final, no webhook, record or row is on its way, and figures stand still."""
    stores = evidence.Stores(system.stack)
    stalled_before_s = system.stalls.total_s
    backlog, allowed_s, last, still_s = -1, 0.0, None, time.monotonic()
    moved: dict[str, float] = {}
    while True:
        system.keeper.tick()
        figures = [campaign.statistics() for campaign in campaigns]
        left = [campaign.pending(found) for campaign, found in zip(campaigns, figures, strict=True)]
        pending = sum(left)
        if backlog < 0:
            backlog, allowed_s = pending, _hindmost(campaigns, left) / system.pace * 1.2 + 30.0
        hooks = system.simulator.stats()["webhooks"]
        moving = {
            "dispatches": pending > 0,
            "campaigns": not all(c.is_over(found) for c, found in zip(campaigns, figures, strict=True)),
            "webhooks": bool(hooks["open"] or hooks["waiting"] or hooks["retrying"]),
            "stores": any(asyncio.run(stores.waiting()).values()),
            "figures": figures != last,
        }
        if not any(moving.values()):  # asked only then: it costs more than the others
            moving["records"] = bool(asyncio.run(stores.unread(system.stack.backing.kafka_bootstrap)))
        now_s = time.monotonic()
        if any(moving.values()):
            last, still_s = figures, now_s
            moved |= {what: round(now_s - healed_s, 1) for what, moves in moving.items() if moves}
        bound_s = allowed_s + system.stalls.total_s - stalled_before_s
        if now_s - still_s > QUIET_S:
            return Recovery(round(still_s - healed_s, 1), round(bound_s, 1), backlog, at_rest=True, moved=moved)
        if now_s - healed_s > bound_s * BOUNDS_WAITED:
            return Recovery(round(now_s - healed_s, 1), round(bound_s, 1), backlog, at_rest=False, moved=moved)
        time.sleep(LOOK_EVERY_S)


def _hindmost(campaigns: list[Started], left: list[int]) -> float:
    """The most messages that one number may have before it: what is left, but no more than its share of all."""
    most = 0.0
    for account in {campaign.account.account_id: campaign.account for campaign in campaigns}.values():
        own = [(one, rest) for one, rest in zip(campaigns, left, strict=True) if one.account is account]
        share = sum(one.messages for one, _ in own) / len(account.pool)
        most = max(most, min(share, sum(rest for _, rest in own)))
    return most


def _arrived(system: System) -> int:
    return sum(int(number["requests"]) for number in system.simulator.stats()["numbers"].values())


def _witness_size(system: System) -> int:
    system.simulator.stats()
    return system.stack.folder.witness.stat().st_size


def _copy_witness(system: System, folder: RunFolder, start: int) -> None:
    """The run's part of the simulator's log."""
    _witness_size(system)  # makes the simulator write what it has gathered
    with system.stack.folder.witness.open("rb") as whole, folder.witness.open("wb") as own:
        whole.seek(start)
        shutil.copyfileobj(whole, own)


def _ids_of_webhooks(witness: Path) -> frozenset[str]:
    """Every message id that a webhook of this run named."""
    found: set[str] = set()
    with witness.open() as lines:
        for line in lines:
            if '"event":"webhook"' in line:
                fact: dict[str, Any] = json.loads(line)
                found.update(str(item[0]) for item in fact["items"])
    return frozenset(found)
