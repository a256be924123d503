"""Texts: tokens, what two of them share, refusals, answers in words. Knows no record, no metric, no stage."""
