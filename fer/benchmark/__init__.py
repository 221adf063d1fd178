"""Benchmarks: throughput and memory of each part of the pipeline, next to common alternatives in the same run."""
