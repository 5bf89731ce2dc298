"""What the numbers mean: rules, and the findings that they make."""
