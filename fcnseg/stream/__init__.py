"""From files to label maps: sources, decoding, sinks, and the loop that joins them to an engine."""
