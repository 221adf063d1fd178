"""Checks and measurements on GPUs."""
