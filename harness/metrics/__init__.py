"""Metrics: pure functions of per-image outcomes. NumPy and SciPy only."""
