"""What crosses a boundary between services: events, topics, envelope, derived identities. Nothing else."""
