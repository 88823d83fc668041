"""Live changes for people's screens."""
