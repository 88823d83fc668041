"""The numbers: as they are configured, who owns which, how they are at their gateways."""
