"""A digest in, findings out: one class per rule, grouped by family. NumPy only."""
