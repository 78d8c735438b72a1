"""Weight files: read them in every format, fit them to a network, store them, download them."""
