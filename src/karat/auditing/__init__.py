"""Auditing: how records differ from human ones, and whether the difference is real. Knows no other stage."""
