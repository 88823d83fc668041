"""The chaos test: real processes, seeded faults, and the audit after every run."""
