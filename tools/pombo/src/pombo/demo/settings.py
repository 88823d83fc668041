"""How a demonstration differs from production: in settings, never in other code."""

from collections.abc import Mapping
from typing import Any

from pombo.stack import Service

# Simulated seconds in a second: people read within half a second instead of five.
TIME_SCALE = 10.0

SERVICES: Mapping[Service, Mapping[str, str]] = {
    Service.SENDER: {
        # Everything shares this machine's cores: what arrives may be later than what left by more than on a network.
        "JITTER_S": "0.025",
        "TEXT_TIMEOUT_S": "4",
        "RECONCILE_WAIT_S": "12",
        "LOOK_UP_AFTER_S": "4",
        "REST_S": "1",
    },
    Service.SCHEDULER: {"PACING__STUCK_S": "15"},
}

SIMULATOR: Mapping[str, Any] = {
    "settings": {"time_scale": TIME_SCALE},
    "faults": {"latency_ms": 60, "latency_p95_ms": 200, "webhook_duplicate_share": 0.01, "webhook_reorder_share": 0.01},
    # Webhooks are tried again soon, so that one that met the door's restart is not an hour late.
    "delivery": {"meta_gaps_s": [1, 2, 5, 15], "evolution_gaps_s": [5, 10, 10, 10, 10]},
}

STEPS = (
    "Olá {{nome}}, aqui é a Aura de {{ Cidade }}. Seu cupom é {{cupom|AURA10}}.",
    "{{NOME}}, o cupom {{cupom|AURA10}} vale até sexta. Para não receber mais, responda SAIR.",
)

POLICY: Mapping[str, Any] = {
    "min_delay_seconds": 0,
    "max_delay_seconds": 0,
    "max_retries": 3,
    "retry_delay_seconds": 2,
}
