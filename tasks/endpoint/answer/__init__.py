"""The answer reader: from the bytes of a partner's JSON answer to typed tables. Pure: no I/O, no clock, no chance.

guards: what an answer may be. shape: where things are in it. column, mapping: what is read, as options. sample:
the mapping that a pasted sample implies. definitions: the mapping as text to look at and paste back. contract:
what has changed since. reader: the one entry point, `read_answer`.
"""
