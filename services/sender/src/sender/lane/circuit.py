"""The breakers that a lane's messages pass: its number's own, and its host's, which it shares with other lanes."""

from collections.abc import Callable, Iterable
from uuid import UUID

from sender.instance.reach import host_of
from sender.lane import breaker, budget
from sender.lane import host as rules
from sender.lane.host import Host
from sender.settings import Settings
from sender.work import Instance, Work

HostKey = tuple[UUID, str, str]
HOSTS_KEPT = 10_000


class Hosts:
    """By account and address: what one account's gateway answers never stops another account's numbers."""

    def __init__(self, settings: Settings) -> None:
        self.breaker_policy = breaker.Policy(
            settings.host_failures, settings.breaker_open_s, settings.media_timeout_s + 15.0
        )
        self.budget_policy = budget.Policy(share=settings.retry_share)
        self.known: dict[HostKey, Host] = {}

    def get(self, key: HostKey) -> Host:
        return self.known.get(key, rules.NEW)

    def put(self, key: HostKey, host: Host) -> None:
        if key not in self.known and len(self.known) >= HOSTS_KEPT:
            self.known.clear()
        self.known[key] = host


class Circuit:
    """One per lane; `own` is its number's breaker. Times are monotonic seconds."""

    def __init__(self, settings: Settings, hosts: Hosts, clock: Callable[[], float]) -> None:
        self.policy = breaker.Policy(
            settings.breaker_failures, settings.breaker_open_s, settings.media_timeout_s + 15.0
        )
        self._hosts = hosts
        self._clock = clock
        self._key: HostKey | None = None
        self._probes_host = False
        self.own: breaker.State = breaker.CLOSED

    @property
    def host(self) -> breaker.State:
        return breaker.CLOSED if self._key is None else self._hosts.get(self._key).state

    @property
    def is_open(self) -> bool:
        """Whether anything less than everything may go."""
        return not (isinstance(self.own, breaker.Closed) and isinstance(self.host, breaker.Closed))

    def meet(self, instance: Instance) -> None:
        """The number as it is configured now: its address may have changed."""
        self._key = (instance.account_id, *host_of(instance))

    def blocked_until(self, now_s: float) -> float | None:
        """None: at least one message may go now."""
        until: list[float] = []
        for state, policy in ((self.own, self.policy), (self.host, self._hosts.breaker_policy)):
            after, permits = breaker.permit(state, now_s, policy)
            if permits == 0 and (at_s := breaker.reopens_at(after)) is not None:
                until.append(at_s)
        return max(until, default=None)

    def permits(self, now_s: float) -> int | None:
        """How many may go now, None = as many as one likes."""
        found = [
            permits
            for state, policy in ((self.own, self.policy), (self.host, self._hosts.breaker_policy))
            if (permits := breaker.permit(state, now_s, policy)[1]) is not None
        ]
        return min(found, default=None)

    def take(self, now_s: float) -> None:
        """Messages are about to go: where a breaker is half open, it is the probe."""
        self.own, _ = breaker.permit(self.own, now_s, self.policy)
        if self._key is not None:
            host = self._hosts.get(self._key)
            after, permits = breaker.permit(host.state, now_s, self._hosts.breaker_policy)
            if permits == 1:
                self._probes_host = True
                self._hosts.put(self._key, host._replace(state=after))

    def give_back(self) -> None:
        """Where the one message that may try the provider does not: else all wait for its answer."""
        now_s = self._clock()
        self.own = breaker.give_back(self.own, now_s)
        if self._probes_host and self._key is not None:
            host = self._hosts.get(self._key)
            self._hosts.put(self._key, host._replace(state=breaker.give_back(host.state, now_s)))
        self._probes_host = False

    def awaits_probe(self, now_s: float) -> bool:
        """What else there is waits for a probe's answer, which comes within moments."""
        return any(isinstance(state, breaker.HalfOpen) and now_s < state.until_s for state in (self.own, self.host))

    def note(self, instance: Instance, result: breaker.Result) -> None:
        """What a request of the number ended with."""
        now_s, key = self._clock(), (instance.account_id, *host_of(instance))
        self.own = breaker.note(self.own, result, now_s, self.policy)
        self._probes_host = False
        host = self._hosts.get(key)
        after = rules.note(
            host, instance.instance_id, result, now_s, self._hosts.breaker_policy, self._hosts.budget_policy
        )
        self._hosts.put(key, after)

    def within_budget(self, works: Iterable[Work]) -> tuple[list[Work], list[Work]]:
        """What may go now, and the retries that their host has no budget for. People are never kept waiting, nor is
        what may be intended already."""
        go: list[Work] = []
        later: list[Work] = []
        for work in works:
            if work.message.attempt == 1:
                self._count_first()
            elif not self.may_retry() and not work.from_person and not work.retaken:
                later.append(work)
                continue
            go.append(work)
        return go, later

    def may_retry(self) -> bool:
        """Takes one retry of the host's budget, where there is one."""
        if self._key is None:
            return True
        host = self._hosts.get(self._key)
        traffic = budget.try_again(host.traffic, self._clock(), self._hosts.budget_policy)
        if traffic is None:
            return False
        self._hosts.put(self._key, host._replace(traffic=traffic))
        return True

    def _count_first(self) -> None:
        if self._key is not None:
            host = self._hosts.get(self._key)
            traffic = budget.count_first(host.traffic, self._clock(), self._hosts.budget_policy)
            self._hosts.put(self._key, host._replace(traffic=traffic))
