"""Speed and memory claims, one script each; what they printed is in RESULTS.md."""
