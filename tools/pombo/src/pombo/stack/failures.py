"""Why the stack does not run.

StackFailed
├── PythonMissing     a package of the workspace cannot be imported
└── ServiceFailed     a process ended while starting, or did not become ready in time
"""


class StackFailed(Exception):
    """The stack could not be started, or a part of it ended."""


class PythonMissing(StackFailed):
    """A package of the workspace is not installed: run `make setup`."""

    def __init__(self, package: str) -> None:
        super().__init__(f"The package {package} is not installed in this Python: run `make setup` and start again.")


class ServiceFailed(StackFailed):
    """A process ended or did not become ready; the end of its log says why."""

    def __init__(self, service: str, what: str, log_tail: str) -> None:
        super().__init__(f"{service} {what}. The end of its log:\n{log_tail}")
        self.service = service
