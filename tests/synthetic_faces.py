"""Synthetic faces for tests that need a few."""

from fer.synthetic import synthetic

FACES = synthetic.generate_faces(5, seed=0)[0][..., None]  # [5, 48, 48, 1] uint8
