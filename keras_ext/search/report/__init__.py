"""The results of a search: as objects, tables, pictures and a page."""
