"""Compares evaluations with published results and with other installable packages."""
