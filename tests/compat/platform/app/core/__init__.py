"""Where the platform keeps its breakers."""
