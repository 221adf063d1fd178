"""Local web page that classifies the faces in a photo and shows boxes, probabilities and Grad-CAM maps."""
