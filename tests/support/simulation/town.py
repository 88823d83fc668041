"""One seed's world as data: accounts, numbers, campaigns, people, the faults that will happen and how often.

A seed draws the profile first and events afterwards, so that seeds differ in kind and not only in luck.
"""

from dataclasses import dataclass, field
from datetime import time, timedelta
from random import Random
from uuid import UUID

from contracts import ids
from contracts.campaigns import Definition, Recipient, SendingPolicy, Step
from contracts.instances import InstanceConfigured, Limits, WarmUpPlan
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.instance.warm_up import Policy
from sender.lane.throttle import size_pair_rate, size_rate
from sender.settings import Settings
from sender.work import Instance
from simulation.clock import START

ACCOUNT = UUID(int=0xACC)
PORTFOLIO = "portfolio"
# How far a process's clock is off from the database's, at most.
SKEW_S = 300.0
# From a request's last check to its first byte, at most: a busy loop, a new connection.
LATE_S = 0.08
HOUR_S = 3600.0
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-00"
# Longer than a request may take and 30 s more: the echo of what is sent again never fits the attempt before it.
SENDER = Settings.model_construct(reconcile_wait_s=60.0, owner="", rest_s=2.0)
# Breakers open and close while a seed's faults last.
LANE = SENDER.model_copy(
    update={"breaker_failures": 6, "host_failures": 9, "breaker_open_s": 5.0, "media_timeout_s": 5.0}
)


@dataclass(frozen=True)
class Faults:
    """Shares of steps, answers or webhooks; 0 in seeds that do without this kind."""

    crash: float
    stand: float
    unknown_commits: float
    slow_rounds: float
    database_away: bool
    broker_away: bool
    late_departures: float
    skew_s: float
    until_s: float


@dataclass(frozen=True)
class Moods:
    """What the provider does with a request, as weights, and with its webhooks, as shares."""

    fates: dict[str, float]
    failed_later: float
    failed_after_delivery: float
    webhook_lost: float
    webhook_twice: float
    webhook_delay_s: float


@dataclass(frozen=True)
class PlannedCampaign:
    id: UUID
    number: int
    definition: Definition
    chunks: tuple[tuple[Recipient, ...], ...]

    @property
    def recipients(self) -> list[Recipient]:
        return [recipient for chunk in self.chunks for recipient in chunk]


@dataclass(frozen=True)
class WarmUps:
    """Numbers in warm-up, with days of another length than ours. `orders`: (when, what, which number); a number is
    `configured` before it is used, and `poor` is what its provider says of its quality."""

    plans: dict[UUID, WarmUpPlan] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    orders: tuple[tuple[float, str, UUID], ...] = ()


@dataclass(frozen=True)
class Town:
    seed: int
    faults: Faults
    moods: Moods
    instances: dict[UUID, Instance]
    campaigns: tuple[PlannedCampaign, ...]
    orders: tuple[tuple[float, str, int], ...]
    senders: int = 2
    texts: dict[str, tuple[UUID, int]] = field(default_factory=dict)
    warm_ups: WarmUps = field(default_factory=WarmUps)


def draw(seed: int) -> Town:
    rng = Random(f"town {seed}")
    faults = _draw_faults(rng)
    instances = {instance.instance_id: instance for instance in _draw_instances(rng)}
    count = 3 if faults.until_s >= HOUR_S else rng.choice((1, 2, 2))
    campaigns = tuple(_draw_campaign(rng, number, list(instances)) for number in range(count))
    texts = {
        step.content: (campaign.id, index)
        for campaign in campaigns
        for index, step in enumerate(campaign.definition.steps)
    }
    orders = _draw_orders(rng, campaigns, faults.until_s)
    warm_ups = _draw_warm_ups(Random(f"warm-ups {seed}"), instances, faults.until_s)
    return Town(seed, faults, _draw_moods(rng), instances, campaigns, orders, texts=texts, warm_ups=warm_ups)


def _some(rng: Random, share: float, most: float) -> float:
    """0 in most seeds, so that each kind of fault is also seen alone."""
    return rng.uniform(0, most) if rng.random() < share else 0.0


def _draw_faults(rng: Random) -> Faults:
    return Faults(
        crash=_some(rng, 0.6, 0.02),
        stand=_some(rng, 0.5, 0.015),
        unknown_commits=_some(rng, 0.3, 0.06),
        slow_rounds=_some(rng, 0.3, 0.03),
        database_away=rng.random() < 0.2,
        broker_away=rng.random() < 0.2,
        late_departures=_some(rng, 0.3, 0.3),
        skew_s=rng.choice((0.0, 0.0, 0.0, SKEW_S)),
        until_s=rng.choice((15.0, 40.0, 90.0, HOUR_S)),
    )


def _draw_moods(rng: Random) -> Moods:
    return Moods(
        fates={
            "accept": 1.0,
            "answer_lost": _some(rng, 0.6, 0.5),
            "unreadable": _some(rng, 0.3, 0.3),
            "swallowed": _some(rng, 0.3, 0.3),
            "not_connected": _some(rng, 0.3, 0.3),
            "refused": _some(rng, 0.4, 0.3),
            "busy": _some(rng, 0.4, 0.4),
            "throttled": _some(rng, 0.4, 0.5),
        },
        failed_later=_some(rng, 0.3, 0.4),
        failed_after_delivery=_some(rng, 0.25, 0.5),
        webhook_lost=_some(rng, 0.3, 0.3),
        webhook_twice=_some(rng, 0.5, 0.5),
        webhook_delay_s=rng.choice((0.5, 5.0, 60.0)),
    )


def _draw_instances(rng: Random) -> list[Instance]:
    quota = rng.choice((None, None, 3, 5))
    shared = rng.random() < 0.6
    kinds = rng.choice((("meta_cloud", "meta_cloud"), ("meta_cloud", "evolution_web"), ("evolution_web",)))
    per_second = rng.choice((1.0, 2.0, 4.0, 10.0))
    pair_burst = rng.choice((1, 45))
    made = []
    for number, kind in enumerate(kinds):
        instance_id = UUID(int=0x1000 + number)
        limits = Limits(
            messages_per_second=per_second, target_per_second=per_second, burst=rng.choice((1, 3)),
            pair_per_minute=10, pair_burst=pair_burst, unique_per_24h=quota,
        )  # fmt: skip
        config = InstanceConfigured(
            name=f"number {number}", provider=kind, server_url="https://provider", phone_number_id=f"10{number}",
            phone_number=f"551150000{number}00", gateway_instance=f"number{number}",
            portfolio_id=PORTFOLIO if shared else None, limits=limits,
        )  # fmt: skip
        made.append(
            Instance(
                instance_id=instance_id,
                account_id=ACCOUNT,
                config=config,
                account=Account(
                    kind=config.provider, server_url="https://provider", phone_number_id=config.phone_number_id,
                    instance_name=config.gateway_instance,
                ),
                provider=PROVIDERS[config.provider],
                rate=size_rate(per_second, per_second, limits.burst, SENDER.jitter_s),
                pair_rate=size_pair_rate(limits.pair_per_minute, limits.pair_burst, SENDER.pair_jitter_s),
                in_flight_max=1 if kind == "evolution_web" else 8,
                quota_scope=f"portfolio:{PORTFOLIO}" if shared else f"instance:{instance_id}",
                quota_limit=quota,
                labelled=kind == "meta_cloud",
                stopped=None,
                revision=1,
            )
        )  # fmt: skip
    return made


def _draw_warm_ups(rng: Random, instances: dict[UUID, Instance], until_s: float) -> WarmUps:
    """In a quarter of the seeds. What people answer is not played, so no day is held for want of it."""
    if rng.random() >= 0.25:
        return WarmUps()
    most = rng.choice((4, 8))
    plan = WarmUpPlan(first_day=rng.choice((1, 2, 3)), growth=rng.choice((1.5, 2.0)), full_per_day=most)
    warming = rng.sample(list(instances), rng.randint(1, len(instances)))
    orders = []
    for instance_id in warming:
        orders.append((rng.uniform(0, 3), "configured", instance_id))
        if rng.random() < 0.3:
            orders.append((rng.uniform(3, until_s), "configured", instance_id))
        for _ in range(rng.choice((0, 0, 1, 2)) if instances[instance_id].labelled else 0):
            orders.append((rng.uniform(3, max(until_s, 60)), "poor", instance_id))
    policy = Policy(day_s=rng.choice((20.0, 120.0, 900.0)), least=3, answered_share=0.0)
    return WarmUps(dict.fromkeys(warming, plan), policy, tuple(sorted(orders)))


def _draw_campaign(rng: Random, number: int, pool: list[UUID]) -> PlannedCampaign:
    campaign_id = UUID(int=0x2000 + number)
    steps = tuple(Step(kind="text", content=f"c{number}s{index}") for index in range(rng.choice((1, 1, 2))))
    slow = rng.random() < 0.3
    closing = rng.random() < 0.2
    policy = SendingPolicy(
        min_delay_s=1.0 if slow else 0, max_delay_s=2.0 if slow else 0,
        pause_after_messages=4 if slow and rng.random() < 0.5 else None, pause_duration_s=10,
        max_retries=rng.choice((1, 3)), retry_delay_s=rng.choice((2, 8)), time_zone="UTC",
        guarantee="at_least_once" if rng.random() < 0.3 else "at_most_once",
        daily_limit=rng.choice((None, None, None, 4)),
        allowed_hours_start=time(8) if closing else None,
        allowed_hours_end=(START + timedelta(seconds=rng.choice((3, 8, 20)))).time() if closing else None,
    )  # fmt: skip
    definition = Definition(name=f"campaign {number}", pool=tuple(pool), steps=steps, policy=policy)
    people = rng.sample(range(20), rng.randint(3, 9))
    recipients = [_recipient(campaign_id, person) for person in people]
    cut = rng.randint(1, len(recipients))
    chunks = tuple(tuple(chunk) for chunk in (recipients[:cut], recipients[cut:]) if chunk)
    return PlannedCampaign(campaign_id, number, definition, chunks)


def _recipient(campaign_id: UUID, person: int) -> Recipient:
    phone = f"55119{40_000_000 + person}"
    key = ids.phone_key(phone)
    return Recipient(
        recipient_id=ids.recipient_id(campaign_id, key),
        contact_id=ids.contact_id(ACCOUNT, key),
        external_id=str(person),
        phone=phone,
    )


def _draw_orders(
    rng: Random, campaigns: tuple[PlannedCampaign, ...], until_s: float
) -> tuple[tuple[float, str, int], ...]:
    """(when, what, campaign or person): what people do while the faults last; over an hour, campaign by campaign."""
    orders: list[tuple[float, str, int]] = []
    for campaign in campaigns:
        began_s = rng.uniform(0, until_s * 0.9) if until_s >= HOUR_S and campaign.number else rng.uniform(0, 2)
        orders.append((began_s, "start", campaign.number))
        for _ in range(rng.choice((0, 2, 4, 8))):
            what = rng.choice(
                ("pause", "pause", "resume", "resume", "cancel" if rng.random() < 0.3 else "pause", "retry")
            )
            later_s = rng.uniform(0.3, until_s if rng.random() < 0.2 else 8)
            orders.append((min(began_s + later_s, until_s), what, campaign.number))
        for _ in range(rng.choice((0, 0, 1, 3))):
            person = int(rng.choice(campaign.recipients).external_id)
            orders.append((began_s + rng.uniform(0, 10), rng.choice(("opt_out", "stop_word")), person))
    return tuple(sorted(orders))
