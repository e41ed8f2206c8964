"""The old paths."""
