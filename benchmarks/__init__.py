"""How fast the package's parts are next to Keras's own: `python -m benchmarks --help`."""

BACKENDS = ("tensorflow", "jax", "torch")
GROUPS = ("layers", "memory", "initializers", "optimizers", "clipping", "monitor")
