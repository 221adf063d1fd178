"""Sweeps: many runs of one experiment with different field values, shared by several processes, and their report."""
