"""Faces: read in every published form, checked, written as shards that can be trusted, and read back."""
