"""Tasks of the loop, one file each."""
