"""Scorers: one file each. Records in, the probability of each class of an attribute out."""
