"""Subscription services: subscribes a population to a service, or unsubscribes it."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Column, Connection, Date, MetaData, String, Table, and_, exists, literal, null, select

from tasks.runs.sink import sink_activity
from tasks.sources.sql import Database, transaction
from tasks.sources.staging import staged
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
        description="Inbound column of each profile's own date; empty takes the business date for all.",
    )


@dataclass(frozen=True)
class Subscribed(Transitions):
    """Outbound transitions of Subscription services."""

    standard: pl.DataFrame
    """Inbound rows whose subscription changed."""
    complement: pl.DataFrame
    """Inbound rows that were subscribed (or not subscribed) already, and repeated profiles."""
    rejects: pl.DataFrame
    """Inbound rows without a key, with the reason."""


def subscription_table(options: SubscriptionServicesOptions) -> Table:
    """The table of subscriptions: one row a service and profile."""
    return Table(
        options.table,
        MetaData(schema=options.database.schema_name),
        Column("service", String(255), primary_key=True),
        Column("profile_id", String(255), primary_key=True),
        Column("subscribed_on", Date(), nullable=False),
        Column("unsubscribed_on", Date()),
    )


def subscribe(inbound: pl.DataFrame, options: SubscriptionServicesOptions, business_date: date) -> Subscribed:
    """Change the subscriptions of the rows' profiles, in one transaction; the first row of a profile counts.

    Errors: `ColumnsMissing`, `DatabaseFailed`, `ExtraMissing`.
    """
    needed = [options.key, *([options.date_column] if options.date_column else [])]
    require_columns(inbound, needed, activity="Subscription services", where="the inbound transition")
    key = pl.col(options.key)
    on = (
        pl.col(options.date_column).cast(pl.Date()).fill_null(business_date)
        if options.date_column
        else pl.lit(business_date)
    )
    profiles = inbound.filter(key.is_not_null() & key.is_first_distinct()).select(
        key.cast(pl.String()).alias("profile_id"), on.alias("on")
    )
    table = subscription_table(options)
    with transaction(options.database) as connection:
        table.create(connection, checkfirst=True)
        changed = _changed(connection, table, profiles, options)
    has_changed = key.cast(pl.String()).is_in(changed.implode()) & key.is_first_distinct()
    return Subscribed(
        standard=inbound.filter(has_changed),
        complement=inbound.filter(~has_changed & key.is_not_null()),
        rejects=inbound.filter(key.is_null()).with_columns(reason=pl.lit("it has no key")),
    )


def _changed(
    connection: Connection, table: Table, profiles: pl.DataFrame, options: SubscriptionServicesOptions
) -> pl.Series:
    """Write what changes, and give the profile ids of those rows."""
    staging = staged(connection, profiles, {"profile_id": String(255), "on": Date()})
    of_service = and_(table.c.service == options.service, table.c.profile_id == staging.c.profile_id)
    subscribed = and_(of_service, table.c.unsubscribed_on.is_(None))
    is_subscribed = exists().where(subscribed).correlate(staging)
    changing = is_subscribed if options.operation == "unsubscribe" else ~is_subscribed
    changed = connection.execute(select(staging.c.profile_id).where(changing)).scalars().all()
    if options.operation == "unsubscribe":
        connection.execute(table.update().values(unsubscribed_on=staging.c.on).where(subscribed))
    else:
        again = and_(of_service, table.c.unsubscribed_on.is_not(None))
        connection.execute(table.update().values(subscribed_on=staging.c.on, unsubscribed_on=null()).where(again))
        new = select(literal(options.service), staging.c.profile_id, staging.c.on).where(
            ~exists().where(of_service).correlate(staging)
        )
        connection.execute(table.insert().from_select(["service", "profile_id", "subscribed_on"], new))
    return pl.Series(changed, dtype=pl.String())


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
    subscription changed), `complement` (who was subscribed, or not, already), `rejects` (without a key).
    Errors: `ColumnsMissing`, `DatabaseFailed`, `ExtraMissing`.
    Source: Adobe Campaign Standard, Subscription services activity.
    """
    return subscribe(inbound, options, business_date)
