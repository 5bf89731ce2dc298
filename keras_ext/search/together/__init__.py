"""Trials of one structure in one compiled program: which trials share it, and the steps that they take in it."""
