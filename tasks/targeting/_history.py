"""The history of an incremental query: one file a run, with whom it was given, and whether that had its effect.

A flow run's part is pending until another run asks for it: then Prefect says what became of that flow run. Its part
is remembered once the run has ended well, and given up once it has failed, so that its people are given again.

2026-11-24 at 7 in UTC, flow run 5f2c..., the query of some options, the first try:
20261124T070000.000000Z_5f2c...-9b1d7a30-1.pending      who was given; the run's effect is not known yet
20261124T070000.000000Z_5f2c...-9b1d7a30-1.parquet      remembered
20261124T070000.000000Z_5f2c...-9b1d7a30-1.1.given-up   empty: others may have been given its people
20261124T070000.000000Z.parquet                         remembered; a query outside a flow run
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import polars as pl
from filelock import FileLock
from polars.exceptions import PolarsError
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tasks.errors import ConfigurationError, HistoryUndecided, SourceUnreadable, StoreUnwritable
from tasks.files.parquet import replace_parquet
from tasks.files.storage import make_private
from tasks.runs.digest import digest_of
from tasks.runs.fate import Fate, fate_of
from tasks.runs.log import run_logger
from tasks.runs.waits import said
from tasks.tables.conditions import first_line
from tasks.tables.transitions import quoted

MOMENT = "%Y%m%dT%H%M%S.%fZ"
"""A run's moment in UTC: names sort as the moments do."""
RUN = r"(?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?P<query>[0-9a-f]{8})-(?P<tried>\d+)"
NAME = re.compile(rf"(?P<moment>\d{{8}}T\d{{6}}\.\d{{6}}Z)(?:_{RUN}(?P<times>\.\d+)?)?\.(?P<state>\w[\w-]*)")
REMEMBERED, PENDING, GIVEN_UP = "parquet", "pending", "given-up"
UNDECIDED = {
    Fate.OPEN: (
        "has not ended",
        "Start this run again when that one has ended. If it was killed and Prefect still shows it as running,"
        " change its state in Prefect: to Failed, and its people are given again; to Completed, and they are not.",
    ),
    Fate.GONE: (
        "is not known to Prefect any more",
        "If it had its effect, let the name of its file '{file}' end with .parquet; if not, remove the file.",
    ),
}


@dataclass(frozen=True)
class Call:
    """A query of a flow run, in one of its tries."""

    run: UUID | None
    query: str = ""
    """Digits by which the query's options are told apart."""
    tried: int = 0
    """Which try of the flow run it is; of a part, the last that asked for it."""

    @classmethod
    def of(cls, options: object) -> "Call":
        """The query of these options in the flow run that runs now."""
        if not flow_run.id:
            return cls(None)
        run = UUID(flow_run.id)
        with get_client(sync_client=True) as client:
            return cls(run, digest_of(options)[:8], client.read_flow_run(run).run_count)

    def is_same_query(self, other: "Call") -> bool:
        """Whether it is the same query of the same flow run, in whatever try."""
        return self.run is not None and (self.run, self.query) == (other.run, other.query)


@dataclass(frozen=True)
class Part:
    """Whom one query was given."""

    path: Path
    moment: datetime
    call: Call
    state: str

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(pl.scan_parquet(self.path).select(pl.len()).collect().item())


@dataclass(frozen=True)
class Known:
    """What a history says to a query."""

    own: Part | None
    """Whom this very query was given before, in an earlier try of its run or in another run of the same moment."""
    others: Sequence[Part]
    """Whom others were given."""


@dataclass(frozen=True)
class History:
    """A folder of parts."""

    folder: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One query at a time, from reading the history until its members are written there."""
        try:
            make_private(self.folder)
            lock = FileLock(self.folder / ".lock")
            with said("another incremental query with the same history", at_most="until it has written its own"):
                lock.acquire()
        except OSError as error:
            raise StoreUnwritable(path=self.folder, reason=error.strerror or str(error)) from None
        try:
            yield
        finally:
            lock.release()

    def parts(self) -> list[Part]:
        """Every part, in the order of their moments. Errors: `SourceUnreadable` (there is a foreign file)."""
        if not self.folder.is_dir():
            return []
        return [_part(path) for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")]

    def known_to(self, call: Call, moment: datetime, keep: timedelta | None) -> Known:
        """What the history says to a query of a moment; parts that are older than `keep` are forgotten.

        Errors: `HistoryUndecided` (a run that was given people has not ended), `SourceUnreadable`.
        """
        oldest = moment - keep if keep else datetime.min.replace(tzinfo=UTC)
        parts = [part for part in self.parts() if part.state != GIVEN_UP and part.moment >= oldest]
        own = _own(parts, call, moment)
        parts = [part for part in parts if not self._is_of_changed_query(part, call)]
        others = [settled for part in parts if part is not own and (settled := self._settled(part))]
        own = own or next((part for part in others if part.moment == moment and part.state == REMEMBERED), None)
        others = [part for part in others if part is not own]
        if own is not None and own.state == PENDING:
            own = self._moved(own, call)
        return Known(own, others)

    def _is_of_changed_query(self, part: Part, call: Call) -> bool:
        """Give up what another query of this flow run was given in an earlier try, which is not asked for again.

        Errors: `ConfigurationError` (two queries of one run have the same history).
        """
        if call.run is None or part.call.run != call.run or part.call.query == call.query:
            return False
        if part.call.tried == call.tried:
            reason = f"'{self.folder.name}' is the history of another query of this run; give each its own"
            raise ConfigurationError(setting="name of the incremental query", reason=reason)
        self._give_up(part)
        return True

    def _settled(self, part: Part) -> Part | None:
        """The part once what became of its run is known; None where it was given up."""
        if part.state != PENDING or part.call.run is None:
            return part
        fate = fate_of(part.call.run)
        if fate in UNDECIDED:
            reason, cure = UNDECIDED[fate]
            raise HistoryUndecided(
                history=self.folder,
                run=part.call.run,
                people=f"{part.rows:,}",
                reason=reason,
                cure=cure.format(file=part.path.name),
            )
        if fate is Fate.FAILED:
            run_logger().warning(
                "The flow run %s failed: the %d people that it was given from the history '%s' may be given again.",
                part.call.run,
                part.rows,
                self.folder.name,
            )
            self._give_up(part)
            return None
        if fate is Fate.DONE:
            path = part.path.with_name(part.path.name.removesuffix(PENDING) + REMEMBERED)
            return Part(part.path.replace(path), part.moment, part.call, REMEMBERED)
        return part

    def _give_up(self, part: Part) -> None:
        times = self.times_given_up(part.call) + 1
        (self.folder / f"{part.path.name.removesuffix(f'.{part.state}')}.{times}.{GIVEN_UP}").touch()
        part.path.unlink()

    def asked_again(self, call: Call, moment: datetime) -> int:
        """Note that a query was asked for in this try. Gives how often it was given up whom it was given."""
        for part in self.parts():
            if part.state == PENDING and part.call.is_same_query(call) and part.moment == moment:
                self._moved(part, call)
        return self.times_given_up(call)

    def _moved(self, part: Part, call: Call) -> Part:
        path = part.path.with_name(_name(part.moment, call))
        return Part(part.path.replace(path), part.moment, call, part.state)

    def times_given_up(self, call: Call) -> int:
        """How often it was given up whom a query was given."""
        return sum(part.state == GIVEN_UP and part.call.is_same_query(call) for part in self.parts())

    def read(self, parts: Sequence[Part], schema: pl.Schema) -> pl.LazyFrame:
        """Whom the parts have, in the columns and types of `schema`. Errors: `SourceUnreadable`."""
        if not parts:
            return pl.LazyFrame(schema=schema)
        try:
            tables = [pl.read_parquet(part.path, columns=list(schema)).cast(schema) for part in parts]
        except (PolarsError, OSError) as error:
            raise SourceUnreadable(
                what="history",
                path=self.folder,
                reason=first_line(error),
                cure="It is of a query with other columns, or damaged. Choose another history name, or remove the"
                " folder to begin again.",
            ) from None
        return pl.concat(tables).lazy()

    def write(self, given: pl.DataFrame, call: Call, moment: datetime) -> None:
        """Keep whom a query was given: until its run has ended, or at once outside a flow run.

        Errors: `StoreUnwritable`.
        """
        replace_parquet(given, self.folder / _name(moment, call))

    def forget(self, before: datetime) -> None:
        """Remove the parts of runs before a moment."""
        for part in self.parts():
            if part.moment < before:
                part.path.unlink(missing_ok=True)


def _name(moment: datetime, call: Call) -> str:
    stem = moment.astimezone(UTC).strftime(MOMENT)
    return f"{stem}_{call.run}-{call.query}-{call.tried}.{PENDING}" if call.run else f"{stem}.{REMEMBERED}"


def _own(parts: Sequence[Part], call: Call, moment: datetime) -> Part | None:
    """What the query was given before: at the same moment, else in an earlier try, whose moment was another."""
    mine = [part for part in parts if part.call.is_same_query(call)]
    same = (part for part in mine if part.moment == moment)
    return next(same, None) or next((part for part in mine if part.call.tried < call.tried), None)


def _part(path: Path) -> Part:
    found = NAME.fullmatch(path.name)
    if found is None or found["state"] not in {REMEMBERED, PENDING, GIVEN_UP} or not path.is_file():
        raise SourceUnreadable(
            what="history",
            path=path.parent,
            reason=f"{quoted([path.name])} in it is none of its files",
            cure="Move it to another place.",
        )
    call = Call(UUID(found["run"]), found["query"], int(found["tried"])) if found["run"] else Call(None)
    moment = datetime.strptime(found["moment"], MOMENT).replace(tzinfo=UTC)
    return Part(path, moment, call, found["state"])
