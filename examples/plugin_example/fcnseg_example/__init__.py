"""A source and a sink for fcnseg, as an example of a plug-in."""
