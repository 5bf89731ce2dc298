"""The monitor: a probe measures, rules find, and a report shows."""
