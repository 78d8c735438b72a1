"""A run: every input of a source predicted, written and recorded."""
