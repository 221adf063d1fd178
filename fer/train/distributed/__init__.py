"""Sets up replicas and workers: strategy, host discovery, start barrier, synchronization."""
