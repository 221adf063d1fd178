"""Audits a data set: duplicates, conflicting labels, leaks between splits, blank images."""
