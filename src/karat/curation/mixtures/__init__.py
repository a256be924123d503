"""Mixtures: one file each, a choice among the records of several sources."""
