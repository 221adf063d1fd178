"""Classifiers from uint8 faces to float32 logits: backbones, heads, weights on disk."""
