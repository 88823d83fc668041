"""What can be set for the sender: units in the names, every wait that a demonstration shortens among them."""

from pydantic import Field

from chassis.settings import SecretsSettings, ServiceSettings
from sender.ledger.attempt import THROTTLED_REST_S


class Settings(ServiceSettings):
    """One process of the sender."""

    secrets: SecretsSettings

    owner: str | None = Field(None, description="stable name of this process; default: the host's name and pid")
    lease_s: float = Field(5.0, description="how long an instance stays ours without renewal")
    lease_margin_s: float = Field(1.0, description="how much earlier we stop by our own clock")
    renew_s: float = Field(1.5, description="between two renewals of all leases")

    jitter_s: float = Field(0.010, description="spread of the way to the provider that pacing allows for")
    pair_jitter_s: float = Field(0.5, description="the same for the limit per recipient")
    lookahead_s: float = Field(0.030, description="how far ahead intents are made")
    intent_linger_s: float = Field(0.002, description="how long intents of several lanes are gathered")
    intent_every_s: float = Field(0.020, description="between the beginnings of two intent transactions")
    intent_batch_max: int = Field(400, description="messages in one intent transaction")
    intent_age_max_s: float = Field(2.0, description="an older intent is not sent any more")
    outcome_linger_s: float = Field(0.005, description="how long outcomes are gathered")
    outcome_every_s: float = Field(0.050, description="between the beginnings of two transactions of outcomes")
    outcome_batch_max: int = Field(400, description="outcomes in one transaction")
    latency_headroom_s: float = Field(0.5, description="answer time for which requests in flight suffice")
    in_flight_min: int = Field(8, description="requests in flight that a number may have in any case")

    sockets_per_host_max: int = Field(512, description="requests under way to one host, of all its numbers together")

    connect_timeout_s: float = 3.0
    text_timeout_s: float = 10.0
    media_timeout_s: float = 60.0
    connect_tries: int = Field(3, description="tries within one call while nothing has left")
    keep_alive_s: float = Field(4.0, description="shorter than any server's, so that no dead connection is used")
    response_max_bytes: int = 64 * 1024
    allowed_hosts: tuple[str, ...] = Field((), description="host:port of private addresses that may be called")

    sweep_s: float = Field(0.5, description="between two sweeps for intents whose owner is gone")
    gate_sweep_s: float = Field(0.05, description="between two looks while a gate is closing")
    gate_idle_s: float = Field(1.0, description="between two looks for gates that others left closing")
    reconcile_wait_s: float = Field(900.0, description="T_rec: how long evidence for an ambiguous attempt is awaited")
    look_up_after_s: float = Field(60.0, description="age of an ambiguous attempt at which the gateway is asked")
    evidence_keep_s: float = Field(86_400.0, description="how long evidence that fits nothing is kept")
    ledger_keep_s: float = Field(7 * 86_400.0, description="how long settled attempts are kept")

    unknown_wait_s: float = Field(5.0, description="how long a message waits for its instance to become known")
    owner_wait_s: float = Field(8.0, description="how long a message waits for the instance's last owner to let go")
    rest_s: float = Field(THROTTLED_REST_S, description="rest of a throttled lane unless the provider says how long")
    breaker_failures: int = Field(10, description="failures in a row that stop an instance")
    host_failures: int = Field(15, description="failures in a row of several numbers that stop their gateway's host")
    breaker_open_s: float = 30.0
    retry_share: float = Field(0.1, description="retries per first attempt while a host is in trouble")
    rests_s: tuple[float, ...] = Field(
        (3600.0, 14_400.0, 43_200.0, 86_400.0), description="rests of a number that its provider limits, growing"
    )
    rest_forget_s: float = Field(604_800.0, description="after so long without one, the first rest is the short one")
    errors_share: float = Field(0.3, description="share of unexplained errors in what is reported that stops a number")
    errors_least: int = Field(10, description="fewer errors than this stop no number")
    errors_window_s: float = Field(1800.0, description="within which these are counted")
    probe_every_s: float = Field(21_600.0, description="between two questions to a gateway for its version and limits")
    warm_up_day_s: float = Field(86_400.0, description="length of a day of a number's warm-up")
    warm_up_delivered_share: float = Field(0.7, description="a day with a smaller share delivered slows the warm-up")
    warm_up_answered_share: float = Field(0.01, description="a day with a smaller share answered holds the warm-up")
    config_poll_s: float = Field(0.5, description="between two looks for changed instances")
    commit_s: float = 1.0
    drain_s: float = Field(10.0, description="how long a stop waits for requests under way")

    webhook_base_url: str = Field(
        "", description="our public address, for gateways to post to where the instance names none"
    )

    test_mode: bool = Field(False, description="whether CRASH_AT=<point>:<nth> is heeded")
