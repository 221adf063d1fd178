"""Augmentation of training images on the device: pure functions of (images, targets, seed)."""
