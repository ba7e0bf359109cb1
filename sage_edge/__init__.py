"""Stable metadata only: the root package exports `__version__` and nothing else."""

__version__ = "0.3.0"
__all__ = ["__version__"]
