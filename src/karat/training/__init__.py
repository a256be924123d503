"""Trains one model and scores it beside chance and a look-up table. Knows neither curation nor value."""
