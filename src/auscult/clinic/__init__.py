"""Small reproducible runs, each healthy or with one known fault: ordinary training scripts over `watch`."""
