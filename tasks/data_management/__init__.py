"""Activities that bring data in."""
