"""Figures of the parts against Keras's own, in one process."""
