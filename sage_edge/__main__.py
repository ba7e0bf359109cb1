"""`python -m sage_edge`."""

from __future__ import annotations

from sage_edge.cli import main

if __name__ == "__main__":
    main()
