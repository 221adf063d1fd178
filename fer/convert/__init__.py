"""Converts any published form of a face data set to TFRecord shards with a manifest."""
