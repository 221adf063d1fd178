"""From a trained run to figures, pictures and predictions."""
