"""Calls to providers over HTTP, and where they may go."""
