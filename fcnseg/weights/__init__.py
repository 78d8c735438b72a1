"""Weight files: reading every form users have, fitting them to a network, keeping them."""
