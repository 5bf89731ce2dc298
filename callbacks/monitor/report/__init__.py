"""Tables, pictures, pages and files of snapshots and findings."""
