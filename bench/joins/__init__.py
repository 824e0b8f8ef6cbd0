"""Clients that join, and viewers that are there already: what ``bench.connect`` is of."""
