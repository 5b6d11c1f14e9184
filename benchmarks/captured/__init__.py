"""Captured data sets for trainings and measurements of the miniature host: augmented, cut into windows, rescaled."""
