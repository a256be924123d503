"""Auditing: how records differ from human ones, and whether the difference is real. One pass, then arithmetic."""
