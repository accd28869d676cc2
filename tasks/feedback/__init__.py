"""Feedback: what receivers report of messages after they were taken, and which message each report is about.

`reports` reads a message from outside (`dsn`, `arf`, over `parts`), `matching` finds the message that it is about,
`services` reads rows of a provider's lists. These are rules without I/O. `mailboxes` reads a mailbox.
"""
