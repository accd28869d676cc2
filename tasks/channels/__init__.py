"""Activities that deliver."""
