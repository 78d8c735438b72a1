"""Scores: label maps compared with ground truth, or with those of another run."""
