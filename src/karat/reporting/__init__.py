"""One self-contained HTML file from the blocks of results. Knows blocks only, and no stage."""

from karat.reporting.stage import report

__all__ = ["report"]
