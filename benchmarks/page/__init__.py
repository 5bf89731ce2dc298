"""Tables, pictures and the page of all results."""
