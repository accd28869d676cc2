"""Alembic's migrations of the journal; a sender that opens a journal runs those that are missing."""
