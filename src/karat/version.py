"""The version of karat, on its own so that reading it costs nothing. Knows nothing else."""

__version__ = "0.1.0"
