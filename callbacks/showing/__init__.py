"""What is shown and written of looks and findings."""
