"""Trainers: one file each, records in, a model out."""
