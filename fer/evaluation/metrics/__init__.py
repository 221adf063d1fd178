"""Metrics of classifiers, as pure functions of labels and probabilities."""
