"""Benches: one question a file, answered as a ratio against something named."""
