"""Figures of the whole system on this machine, as JSON lines."""
