"""Campaigns as the scheduler follows them: their status, their plan, their end, bulk changes of their dispatches."""
