"""One step to one recipient: what outcomes make of it, and what is told about it."""
