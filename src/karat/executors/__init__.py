"""Where work runs: in this process, in several, on many machines. The only folder that knows."""
