"""From uint8 faces to float32 logits: backbones, the classifier around them, weights on disk."""
