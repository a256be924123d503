"""Data cycles of the loop, one file each: presets of one policy."""
