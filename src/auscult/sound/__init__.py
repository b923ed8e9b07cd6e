"""Sound: a run and its findings in, a Score out; a Score in, Audio out. NumPy alone."""
