"""Conversations: what a team does with them. Their messages are in the read model."""
