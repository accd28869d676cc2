"""Activities that bring data in, hand it out, and keep the database."""
