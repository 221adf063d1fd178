"""Draws plots and images as PNG bytes."""
