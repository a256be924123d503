"""The metrics shelf: one file a metric, found by its file name. Knows nothing itself."""
