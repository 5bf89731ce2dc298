"""Comparisons of a part with Keras's own, a file for each group."""
