"""Filters: one file each, a verdict for each record."""
