"""Whether a run kept its promises, from what the simulator and the CLI's own clock wrote down."""
