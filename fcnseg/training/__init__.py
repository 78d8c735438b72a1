"""Training networks on labelled images."""
