"""Keeps, orders and mixes records, with a reason for each record that it drops. Knows no trainer."""
