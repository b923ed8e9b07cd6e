"""The nouns, each defined once. Standard library and NumPy only."""
