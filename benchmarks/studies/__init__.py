"""What takes longer: searches, broken layers, a GPU; each a command of its own."""
