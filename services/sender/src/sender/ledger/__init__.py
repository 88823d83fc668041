"""Attempts: whether one may be made, its durable intent, its outcome, what is told of it."""
