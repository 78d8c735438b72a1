"""What the rendered street scenes are made of: the canvas, and a file for each kind of thing."""
