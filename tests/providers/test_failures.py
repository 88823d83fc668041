"""The closed list of failures, and the registry."""

from typing import get_args

from providers import failures
from providers.failures import FAILURES
from providers.protocol import ProviderName
from providers.registry import PROVIDERS


def test_every_provider_has_its_dialect() -> None:
    assert set(PROVIDERS) == set(get_args(ProviderName))
    assert all(provider.name == name for name, provider in PROVIDERS.items())


def test_every_failure_is_listed_once_under_its_name() -> None:
    constants = [value for value in vars(failures).values() if isinstance(value, failures.Failure)]
    assert len(constants) == len(FAILURES)
    assert all(FAILURES[failure.name] is failure for failure in constants)


def test_what_a_failure_asks_for_agrees_with_itself() -> None:
    for failure in FAILURES.values():
        assert failure.text.endswith(".")
        assert failure.action != "retry" or failure.retryable
        assert failure.action not in ("fail", "fail_recipient", "fail_media") or not failure.retryable
        assert failure.retry_after_s is None or failure.retryable
        assert (failure.action == "stop_template") == (failure.stops == "template")
        assert failure.action != "disable_host" or failure.stops == "host"
        assert failure.action not in ("disable_instance", "pause_instance") or failure.stops in (
            "instance",
            "portfolio",
        )
