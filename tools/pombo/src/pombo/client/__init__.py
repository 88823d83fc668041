"""Clients of HTTP APIs: ours (as any program would use it) and the simulator's control API."""
