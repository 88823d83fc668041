"""Accounts, people, sign-in, API keys."""
