"""Reports: one HTML page of a score, or of the difference of two runs."""
