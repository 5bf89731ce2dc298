"""Searches whose trials run in processes of their own, on this machine or on many."""
