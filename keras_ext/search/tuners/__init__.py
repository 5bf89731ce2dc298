"""The tuners, Optuna's study of a search, and the pruners."""
