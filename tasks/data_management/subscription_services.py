"""Subscription services: subscribes a population to a service, or unsubscribes it."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Date,
    MetaData,
    String,
    Table,
    and_,
    exists,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.types import TypeEngine

from tasks.errors import ColumnTypesDiffer
from tasks.runs.sink import sink_activity
from tasks.sources.sql import Database, transaction
from tasks.sources.staging import alone, staged
from tasks.tables.transitions import Transitions, require_columns


class SubscriptionServicesOptions(BaseModel):
    """Options of the Subscription services activity."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database: Database = Field(title="Database", description="Where subscriptions are kept.")
    table: str = Field(
        default="subscriptions",
        title="Table",
        description=(
            "Table of subscriptions (service, profile_id, subscribed_on, unsubscribed_on); made if it is not there."
        ),
    )
    service: str = Field(min_length=1, max_length=255, title="Service", description="Name of the service.")
    operation: Literal["subscribe", "unsubscribe"] = Field(
        default="subscribe", title="Operation", description="Subscribe the population, or unsubscribe it."
    )
    key: str = Field(default="profile_id", title="Key", description="Inbound column that tells profiles apart.")
    date_column: str = Field(
        default="",
        title="Date column",
        description=(
            "Inbound column of the date, or moment, at which each profile said it: so an older list never undoes a"
            " later refusal. A moment counts by its day in its own zone. Where it is missing, and for all where"
            " this is empty, the business date is taken."
        ),
    )


@dataclass(frozen=True)
class Subscribed(Transitions):
    """Outbound transitions of Subscription services."""

    standard: pl.DataFrame
    """Inbound rows whose subscription changed."""
    complement: pl.DataFrame
    """Inbound rows that were subscribed (or not subscribed) already, and repeated profiles."""
    rejects: pl.DataFrame
    """Inbound rows without a key, or of profiles who have said otherwise since, with the reason."""


def subscription_table(options: SubscriptionServicesOptions) -> Table:
    """The table of subscriptions: one row a service and profile."""
    return Table(
        options.table,
        MetaData(schema=options.database.schema_name),
        Column("service", String(255), primary_key=True),
        Column("profile_id", String(255), primary_key=True),
        Column("subscribed_on", Date()),
        Column("unsubscribed_on", Date()),
    )


def subscribe(inbound: pl.DataFrame, options: SubscriptionServicesOptions, business_date: date) -> Subscribed:
    """Change the subscriptions of the rows' profiles, in one transaction; the latest date of a profile counts.

    Errors: `ColumnsMissing`, `ColumnTypesDiffer`, `DatabaseBusy`, `DatabaseFailed`, `ExtraMissing`.
    """
    needed = [options.key, *([options.date_column] if options.date_column else [])]
    require_columns(inbound, needed, activity="Subscription services", where="the inbound transition")
    key, on = pl.col(options.key), pl.lit(business_date)
    if options.date_column:
        kind = inbound.schema[options.date_column]
        if not isinstance(kind, pl.Date | pl.Datetime | pl.Null):
            types = f"{kind}, neither a date nor a moment"
            raise ColumnTypesDiffer(activity="Subscription services", column=options.date_column, types=types)
        own = pl.col(options.date_column)
        on = (own.dt.date() if isinstance(kind, pl.Datetime) else own.cast(pl.Date())).fill_null(business_date)
    profiles = (
        inbound.filter(key.is_not_null())
        .select(key.cast(pl.String()).alias("profile_id"), on.alias("on"))
        .group_by("profile_id", maintain_order=True)
        .agg(pl.col("on").max())
    )
    table = subscription_table(options)
    with transaction(options.database) as connection:
        table.create(connection, checkfirst=True)
        alone(connection, table)
        changed, outdated = _changed(connection, table, profiles, options)
    text = key.cast(pl.String())
    has_changed = text.is_in(changed.implode()) & key.is_first_distinct()
    is_outdated = text.is_in(outdated.implode())
    later = "unsubscribed" if options.operation == "subscribe" else "subscribed again"
    reason = pl.when(key.is_null()).then(pl.lit("it has no key")).otherwise(pl.lit(f"it has {later} since"))
    return Subscribed(
        standard=inbound.filter(has_changed),
        complement=inbound.filter(~has_changed & key.is_not_null() & ~is_outdated),
        rejects=inbound.filter(key.is_null() | is_outdated).with_columns(reason=reason),
    )


def _changed(
    connection: Connection, table: Table, profiles: pl.DataFrame, options: SubscriptionServicesOptions
) -> tuple[pl.Series, pl.Series]:
    """Write what changes; gives the profile ids of those rows, and of those who have said otherwise since.

    What is said later holds; of what is said on one day, the refusal.
    """
    types: dict[str, TypeEngine[Any]] = {"profile_id": String(255), "on": Date()}
    staging = staged(connection, profiles, types, {"profile_id": "varchar", "on": "date"})
    there, said = table.c, staging.value("on")
    known = and_(there.service == options.service, there.profile_id == staging.value("profile_id"))
    refused = and_(known, there.unsubscribed_on.is_not(None))
    subscribed = and_(known, there.unsubscribed_on.is_(None))
    if options.operation == "subscribe":
        changing, outdated = (
            and_(refused, there.unsubscribed_on < said),
            and_(refused, there.unsubscribed_on >= said),
        )
        values = {"subscribed_on": said, "unsubscribed_on": null()}
    else:
        changing, outdated = (
            and_(subscribed, there.subscribed_on <= said),
            and_(subscribed, there.subscribed_on > said),
        )
        values = {"unsubscribed_on": said}
    is_new = ~exists().where(known).correlate(staging.table)

    def profiles_where(condition: ColumnElement[bool]) -> pl.Series:
        found = connection.execute(select(staging.table.c.profile_id).where(condition)).scalars().all()
        return pl.Series(found, dtype=pl.String())

    changed = profiles_where(or_(exists().where(changing).correlate(staging.table), is_new))
    left = profiles_where(exists().where(outdated).correlate(staging.table))
    is_refusal = options.operation == "unsubscribe"
    columns = ["service", "profile_id", "unsubscribed_on" if is_refusal else "subscribed_on"]
    # Of somebody unknown too: a refusal is there before the list that would subscribe them.
    new = select(literal(options.service), staging.value("profile_id"), said).where(is_new)
    connection.execute(table.insert().from_select(columns, new))
    connection.execute(table.update().values(values).where(changing))
    if is_refusal:
        # A refusal that is said again holds against lists until then.
        connection.execute(table.update().values(values).where(refused, there.unsubscribed_on < said))
    return changed, left


@sink_activity(
    "Subscription services",
    task_run_name="Subscription services {options.service}",
    key=lambda options, business_date: [options.key],  # noqa: ARG005
)
def subscription_services(
    inbound: pl.DataFrame, options: SubscriptionServicesOptions, business_date: date
) -> Subscribed:
    """Subscribe a population to a service, or unsubscribe it, with the date.

    In: rows with the key; the business date, for those that bring no date of their own. Out: `standard` (whose
    subscription changed), `complement` (who was subscribed, or not, already), `rejects` (without a
    key, or who said otherwise later, or refused on the same day). A refusal of somebody unknown is kept too.
    Errors: `ColumnsMissing`, `ColumnTypesDiffer`, `DatabaseBusy`, `DatabaseFailed`, `ExtraMissing`.
    Source: Adobe Campaign Standard, Subscription services activity.

    Example:
        ```python
        options = SubscriptionServicesOptions(database=database, service="newsletter")
        subscribed = subscription_services(audience, options, today)
        ```
    """
    return subscribe(inbound, options, business_date)
