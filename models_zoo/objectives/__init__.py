"""Training objectives: losses as pure functions."""
