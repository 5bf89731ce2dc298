"""What takes longer: searches and broken layers, each with a table of its own."""
