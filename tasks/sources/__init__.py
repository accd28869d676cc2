"""Where rows are: one kind of source a file, each of the same shape (`tasks.sources.source.Source`).

files: Parquet, CSV, NDJSON, Delta. database: a table of PostgreSQL or SQLite, with the filter run in the database.
values: the one converter of their values (README.md says what is accepted; reference makes that page).
"""
