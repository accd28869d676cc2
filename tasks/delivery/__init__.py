"""Claim, carry, write down: dispatch, journal, SMTP, providers, progress."""
