"""What only a GPU shows: shares of its copy bandwidth, and the parts in a large network."""
