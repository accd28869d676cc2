"""Mailboxes that reports come to: a file for each kind, of the same shape."""
