"""Predicts expressions in tables, folders of images, photos, videos and camera images."""
