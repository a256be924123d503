"""Encoders: one file each. Texts in, unit vectors out."""
