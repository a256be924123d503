"""What a synthetic set is worth, counted in human records. Knows no trainer by itself."""
