"""The monitor's measurements: the samples, the compiled run of the model on them, and the numbers of it."""
