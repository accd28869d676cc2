"""An account's token as something that lasts needs it: looked at now and then, and renewed once it is refused."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from tasks.http.accounts import credentials_of
from tasks.http.credentials import Credentials
from tasks.runs.log import run_logger

LOOK_SECONDS = 15.0
"""For so long what was read is used again: less than an OAuth token is given up before it ends."""


@dataclass
class Tokens:
    """The headers of one account, for many calls to one place, from many threads."""

    account: str
    url: str
    """Where they are sent to."""
    allowed_hosts: frozenset[str]
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _known: Mapping[str, str] | None = None
    _credentials: Credentials | None = None
    _until: float = 0.0

    def headers(self) -> Mapping[str, str]:
        """The account's headers. Errors: those of `credentials_of` and of fetching a token; `AccountNotForHost`."""
        with self._lock:
            if self._known is None or self.clock() >= self._until:
                self._read()
            assert self._known is not None, "it was read just now"  # noqa: S101
            return self._known

    def bearer(self) -> str:
        """The token alone. Errors: as `headers`."""
        return self.headers().get("Authorization", "").partition(" ")[2]

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Have other headers than the refused ones; False where the account has none. Errors: as `headers`."""
        with self._lock:
            if self._known is not None and self._known != refused:
                return True  # somebody else did
            if self._credentials is None or not self._credentials.renew():
                return False
            self._read()
            return self._known != refused

    def _read(self) -> None:
        credentials = credentials_of(self.account, self.allowed_hosts, run_logger())
        credentials.check(self.url)
        # A new one each time: credentials renew themselves once, and a long send may need it again.
        self._credentials = credentials
        self._known = {name: value.get_secret_value() for name, value in credentials.headers().items()}
        self._until = self.clock() + LOOK_SECONDS
