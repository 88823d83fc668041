"""How a chaos run differs from production: in settings, never in other code."""

from collections.abc import Mapping
from typing import Any

from pombo.demo import settings as demo
from pombo.stack import Service

TIME_SCALE = 10.0
RECONCILE_WAIT_S = 6.0

_OWN: Mapping[Service, Mapping[str, str]] = {
    Service.SENDER: {"RECONCILE_WAIT_S": f"{RECONCILE_WAIT_S:g}", "LOOK_UP_AFTER_S": "2", "BREAKER_OPEN_S": "3"},
}
# Without it nobody heeds CRASH_AT.
SERVICES: Mapping[Service, Mapping[str, str]] = {
    service: {"TEST_MODE": "true"} | dict(demo.SERVICES.get(service, {})) | dict(_OWN.get(service, {}))
    for service in Service
}

USUAL_FAULTS: Mapping[str, Any] = {
    "latency_ms": 30,
    "latency_p95_ms": 100,
    "webhook_duplicate_share": 0.01,
    "webhook_reorder_share": 0.01,
}

SIMULATOR: Mapping[str, Any] = {
    "settings": {"time_scale": TIME_SCALE},
    "faults": USUAL_FAULTS,
    # Meta repeats for days what it could not deliver, Evolution some minutes, Z-API never: tenths of it here.
    "delivery": {
        "meta_gaps_s": [1, 2, 5, 10, 20, 40, 60, 60, 60, 60, 60, 60],
        "evolution_gaps_s": [5, 10, 20, 40, 80, 160],
    },
}
