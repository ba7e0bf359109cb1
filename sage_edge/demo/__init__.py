"""The demo gateway: the real SAGE gateway with a small language model in the same process.

Loaded by name for `--gateway demo` alone. A gateway like any other: it knows nothing of the edge.
"""
