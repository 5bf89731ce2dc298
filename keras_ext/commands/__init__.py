"""The commands of `keras-ext`, one a file."""
