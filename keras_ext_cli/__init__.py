"""The options of the command `keras-ext`.

They stand outside the package, as its import takes seconds, and help and mistakes are answered at once.
"""
