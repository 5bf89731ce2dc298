"""What the project promises of its figures, and whether they hold it."""
