"""Activities that choose the audience."""
