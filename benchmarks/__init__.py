"""The package's parts against Keras's own, and what its searches cost and save: `python -m benchmarks --help`."""

BACKENDS = ("tensorflow", "jax", "torch")
