"""What makes a campaign's definition right: limits of steps and policy. Pure."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from contracts.campaigns import Definition, SendingPolicy, Step

STEPS_MAX = 20
POOL_MAX = 500
TEXT_MAX_CHARS = 4096
CAPTION_MAX_CHARS = 1024
DELAY_MAX_S = 86_400.0
RETRIES_MAX = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """`field`: dotted path as the client names it."""

    field: str
    text: str


def faults_of(definition: Definition) -> list[Fault]:
    faults = []
    if not definition.name.strip():
        faults.append(Fault("name", "name must not be empty"))
    if len(definition.pool) > POOL_MAX:
        faults.append(Fault("instance_pool", f"at most {POOL_MAX} instances"))
    if len(definition.steps) > STEPS_MAX:
        faults.append(Fault("messages", f"at most {STEPS_MAX} messages"))
    for index, step in enumerate(definition.steps):
        faults += [Fault(f"messages.{index}.{fault.field}", fault.text) for fault in _step_faults(step)]
    faults += [Fault(f"sending_configuration.{fault.field}", fault.text) for fault in policy_faults(definition.policy)]
    return faults


def _step_faults(step: Step) -> list[Fault]:
    match step.kind:
        case "text":
            if not step.content.strip():
                return [Fault("content", "a text message needs content")]
            return _longer(step.content, TEXT_MAX_CHARS)
        case "template":
            if not step.template_name:
                return [Fault("template_name", "a template message needs template_name")]
            return []
        case _:
            if not step.media_url:
                return [Fault("media_url", f"a message of type {step.kind} needs media_url")]
            parts = urlsplit(step.media_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                return [Fault("media_url", "media_url must be an http or https address")]
            return _longer(step.content, CAPTION_MAX_CHARS)


def _longer(text: str, limit: int) -> list[Fault]:
    return [Fault("content", f"content is longer than {limit} characters")] if len(text) > limit else []


def policy_faults(policy: SendingPolicy) -> list[Fault]:
    faults = [
        Fault(name, f"{name} must not be negative")
        for name, value in (
            ("min_delay_seconds", policy.min_delay_s),
            ("max_delay_seconds", policy.max_delay_s),
            ("pause_duration_seconds", policy.pause_duration_s),
            ("max_retries", policy.max_retries),
            ("retry_delay_seconds", policy.retry_delay_s),
        )
        if value < 0
    ]
    if policy.min_delay_s > policy.max_delay_s:
        faults.append(Fault("min_delay_seconds", "min_delay_seconds must not exceed max_delay_seconds"))
    if max(policy.max_delay_s, policy.pause_duration_s) > DELAY_MAX_S:
        faults.append(Fault("max_delay_seconds", "delays and rests may last a day at most"))
    if policy.pause_after_messages is not None and policy.pause_after_messages <= 0:
        faults.append(Fault("pause_after_messages", "pause_after_messages must be greater than 0"))
    if policy.max_retries > RETRIES_MAX:
        faults.append(Fault("max_retries", f"max_retries must not exceed {RETRIES_MAX}"))
    if policy.daily_limit is not None and policy.daily_limit <= 0:
        faults.append(Fault("daily_limit", "daily_limit must be greater than 0"))
    return faults + _hours_faults(policy)


def _hours_faults(policy: SendingPolicy) -> list[Fault]:
    faults = []
    if (policy.allowed_hours_start is None) != (policy.allowed_hours_end is None):
        faults.append(Fault("allowed_hours_start", "allowed_hours_start and allowed_hours_end belong together"))
    elif policy.allowed_hours_start is not None and policy.allowed_hours_start == policy.allowed_hours_end:
        faults.append(Fault("allowed_hours_end", "allowed_hours_end must differ from allowed_hours_start"))
    if not policy.weekdays or any(day not in range(7) for day in policy.weekdays):
        faults.append(Fault("weekdays", "weekdays are numbers from 0 (Monday) to 6, at least one"))
    return faults


def warnings_of(definition: Definition, web_kinds_in_pool: bool) -> list[str]:
    if web_kinds_in_pool and definition.policy.max_delay_s == 0:
        return ["Delays of 0 on a WhatsApp Web instance put its number at risk"]
    return []
