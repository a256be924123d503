"""Providers: what answers requests. One file each; the file name is the provider's name."""
