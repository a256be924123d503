"""Orderings: one file each, a score for each record; the highest comes first."""
