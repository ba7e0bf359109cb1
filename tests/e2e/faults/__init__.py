"""Faults of the gateway, of workers and of the machine, with real processes."""
