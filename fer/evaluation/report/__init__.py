"""Builds report.html from an evaluation."""
