"""Predicts expressions in tables, folders of images and photos."""
