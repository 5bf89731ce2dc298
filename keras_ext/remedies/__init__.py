"""Remedies: which change of a model, or of its training, is for which symptom, and those changes that keep the graph."""
