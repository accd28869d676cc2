"""httpx logs the whole address of each request, whose query may hold a key: a filter removes the query."""

import logging

import httpx

from tasks.http.network import public_url
from tasks.runs.log import add_once


class AddressWithoutQuery(logging.Filter):
    """Keeps every record; takes user name, password and query off the addresses in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record` in place where an argument is an address."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                public_url(str(argument)) if isinstance(argument, httpx.URL) else argument
                for argument in record.args
            )
        return True


def install_filter() -> None:
    """Put the filter on the logger of httpx, once."""
    add_once(logging.getLogger("httpx"), AddressWithoutQuery())
