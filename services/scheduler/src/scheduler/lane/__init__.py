"""The ordered line of one instance: what holds it, what may leave it, how it reaches the sender."""
