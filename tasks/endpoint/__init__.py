"""A partner's endpoint as data: what is sent, how pages follow, what is read of the answer."""
