"""The engine of robustboard: perturb, attack, measure, run, rank."""

__version__ = "0.1.0"
