"""Pools of codes: one for each recipient, bound to the message; see README.md."""
