"""Activities that make the messages."""
