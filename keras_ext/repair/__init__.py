"""A repaired copy of a model: what was found, the changes for it, and trial trainings that decide which of them help.

`keras_ext.repair` is the function `keras_ext.repair.repair.repair`.
"""
