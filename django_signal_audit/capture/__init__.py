"""Capture: each module turns one way to write into events."""
