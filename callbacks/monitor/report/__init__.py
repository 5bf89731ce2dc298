"""What is shown and written of snapshots and findings."""
