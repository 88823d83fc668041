"""What all routes share: who asks, problems, cursors, idempotency keys, limits, audit."""
