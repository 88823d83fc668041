"""Campaigns: their stream, their audience, their HTTP door."""
