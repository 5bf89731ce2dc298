"""What takes longer: searches, each with a table of its own."""
