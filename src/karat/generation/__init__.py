"""Generating data with a language model: plan, calls, records. Knows nothing of how the data is later judged."""
