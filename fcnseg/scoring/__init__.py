"""Comparing label maps with ground truth."""
