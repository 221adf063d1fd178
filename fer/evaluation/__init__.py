"""Evaluates trained networks: predictions, metrics, plots and report."""
