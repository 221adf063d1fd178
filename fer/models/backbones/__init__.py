"""Backbones that Keras lacks, and those of KerasCV."""
