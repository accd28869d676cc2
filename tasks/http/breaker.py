"""A circuit breaker: a host that failed too often lately is not called for a while, by any run.

What is known of a host is one Prefect Variable, `failing-<host>-<digest>`, which people see and delete in the UI.
Two runs that write it at one moment may lose a failure of one of them: it opens one failure later.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
from prefect.exceptions import PrefectException
from prefect.variables import Variable

from tasks.errors import ApiError, HostPaused, StatusRefused
from tasks.http.network import public_url
from tasks.settings import BreakerSettings


class Breaker:
    """What runs know of one host. Errors of a Prefect server that cannot be reached go through."""

    def __init__(self, url: str, settings: BreakerSettings) -> None:
        self._url = public_url(url)
        self._settings = settings
        place = self._url.partition("://")[2].partition("/")[0].lower()
        shown = re.sub(r"[^a-z0-9]+", "-", place).strip("-")[:60]
        self.variable = f"failing-{shown}-{sha256(place.encode()).hexdigest()[:8]}"
        self._known: list[datetime] = []

    @contextmanager
    def watched(self, longest_wait: float) -> Iterator[None]:
        """A call of the host. Errors: `HostPaused`, retryable where the rest of the pause is no longer wait."""
        if not self._settings.failures:
            yield
            return
        self._check(longest_wait)
        try:
            yield
        except Exception as error:
            if _is_of_host(error):
                self._remember()
            raise
        if self._known:
            with suppress(PrefectException, httpx.HTTPError):
                Variable.unset(self.variable, _sync=True)  # type: ignore[call-arg]

    def _check(self, longest_wait: float) -> None:
        self._known, now = self._read(), datetime.now(UTC)
        recent = self._recent(now)
        if len(recent) < self._settings.failures:
            return
        seconds = (recent[-1] + timedelta(seconds=self._settings.pause_seconds) - now).total_seconds()
        if seconds > 0:
            raise HostPaused(
                url=self._url,
                count=len(recent),
                variable=self.variable,
                retryable=seconds <= longest_wait,
                retry_after=seconds,
            )

    def _remember(self) -> None:
        now = datetime.now(UTC)
        self._known = self._read()
        # The last ones are enough: one more failure after a pause is a pause again.
        kept = [*self._recent(now), now][-self._settings.failures :]
        moments = [moment.isoformat() for moment in kept]
        # Another run may write it at this moment; and what cannot be remembered must not hide what failed.
        with suppress(PrefectException, httpx.HTTPError):
            Variable.set(self.variable, moments, overwrite=True, _sync=True)  # type: ignore[call-arg]

    def _recent(self, now: datetime) -> list[datetime]:
        window = timedelta(minutes=self._settings.minutes, seconds=self._settings.pause_seconds)
        return [moment for moment in self._known if now - moment < window]

    def _read(self) -> list[datetime]:
        found: Any = Variable.get(self.variable, _sync=True)  # type: ignore[call-overload]
        try:
            return sorted(datetime.fromisoformat(moment) for moment in found or ())
        except (TypeError, ValueError):
            return []  # written by somebody else


def _is_of_host(error: BaseException) -> bool:
    """Whether a failure says that the host is unwell: no connection, no answer in time, 5xx."""
    if not isinstance(error, ApiError) or isinstance(error, HostPaused) or not error.of_partner:
        return False
    if isinstance(error, StatusRefused):
        return int(error.facts["status"]) >= 500
    return error.retryable
