"""The journal: what became of every message, kept so that no message is sent twice and none is lost.

`states` holds the rules, without I/O. `storage` keeps them in SQLite or PostgreSQL. `migrations` makes its tables.
`departures` says, beside a journal that is a file, what a killed sender had not yet told it.
"""
