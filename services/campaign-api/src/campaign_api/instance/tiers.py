"""Throughput tiers: unique people in 24 h and messages a second that go with each. Pure."""

from typing import Literal

from contracts.instances import Limits

Tier = Literal["250", "1", "2", "3", "unlimited"]
_TIERS: dict[str, tuple[int | None, float]] = {
    "250": (250, 20),
    "1": (2_000, 40),
    "2": (10_000, 60),
    "3": (100_000, 80),
    "unlimited": (None, 1_000),
}


def limits_of(tier: str | None, chosen: Limits | None = None) -> Limits:
    """Without a tier the defaults hold. What was set by hand stays."""
    limits = chosen or Limits()
    if tier is None or tier not in _TIERS:
        return limits
    unique, rate = _TIERS[tier]
    return limits.model_copy(update={"unique_per_24h": unique, "messages_per_second": rate})
