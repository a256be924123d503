"""The self-consuming loop: tasks, cycles, measures and forecasts."""
