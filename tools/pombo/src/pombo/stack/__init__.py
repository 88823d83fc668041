"""The whole system on one machine: backing, five services and the simulator, each a process of its own."""

from pombo.stack.failures import ServiceFailed, StackFailed
from pombo.stack.folder import RunFolder
from pombo.stack.services import PROCESSES, TRANSLATOR, Service
from pombo.stack.stack import Stack, Wishes

__all__ = ["PROCESSES", "TRANSLATOR", "RunFolder", "Service", "ServiceFailed", "Stack", "StackFailed", "Wishes"]
