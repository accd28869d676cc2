"""The terminal: the command `campaign`, and what its subcommands do."""
