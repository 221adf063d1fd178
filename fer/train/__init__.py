"""Devices, optimizer, step, loop, checkpoints, telemetry."""
