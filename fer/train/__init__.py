"""Trains classifiers: strategy, optimizer, training step, checkpoints and metric logging."""
