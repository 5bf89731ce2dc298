"""How fast the package's parts are next to Keras's own, and what its searches cost and save: `python -m benchmarks --help`."""

BACKENDS = ("tensorflow", "jax", "torch")
# What compares a part with Keras's own in one process; the studies, which take longer, are listed in `studies/registry.py`.
GROUPS = ("layers", "memory", "initializers", "optimizers", "clipping", "monitor", "growth")
