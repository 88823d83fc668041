"""The line of one instance: what waits, what may leave now, and the last step before the network."""
