"""Reads manifests and shards, and yields shuffled batches of faces."""
