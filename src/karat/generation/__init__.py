"""Generating data with a language model: plan, calls, records. Knows nothing of how data is judged."""
