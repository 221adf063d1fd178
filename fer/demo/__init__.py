"""A local page to try a network on: photos in, faces, probabilities and what the network looked at out."""
