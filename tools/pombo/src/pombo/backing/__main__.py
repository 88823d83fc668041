"""`python -m pombo.backing serve --dir DIR`: both servers until SIGTERM or Ctrl-C; the addresses as one JSON line."""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from pombo.backing import BackingUnavailable, start_backing
from pombo.backing.outside import served_addresses


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pombo.backing", description=__doc__)
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="start both and stay")
    serve.add_argument("--dir", type=Path, required=True, help="folder for data, logs, ports and the password")
    serve.add_argument("--mode", choices=("auto", "local", "docker", "environment"), default="auto")
    wanted = parser.parse_args()
    ended = threading.Event()
    # Before the start: a signal that comes early ends us in order, once both are up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        backing = start_backing(wanted.dir, mode=wanted.mode)
    except BackingUnavailable as failure:
        print(failure, file=sys.stderr)
        return 1
    with backing:
        addresses = {"kafka_bootstrap": backing.kafka_bootstrap, "postgres_admin_dsn": backing.postgres_dsn_admin}
        print(json.dumps(addresses | {"pids": backing.pids}), flush=True)
        with served_addresses(wanted.dir, addresses):
            ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
