"""Sports for the weekend, a campaign of prefect.yaml, deployed and sent by mail by several runs at one time."""

from datetime import date
from pathlib import Path
from uuid import UUID

import polars as pl
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate

from deployments.sandbox.partner import Partner
from deployments.sandbox.profiles import sample_profiles
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import MESSAGES
from tests.made_up import WRITTEN
from tests.postgresql import engine_of

DAY = date(2026, 11, 24)


def readers(profiles: int) -> pl.DataFrame:
    """Those of the first so many sample profiles whom the campaign is for."""
    sporty = pl.col("may_contact") & (pl.col("favourite_category") == "sports")
    return sample_profiles().head(profiles).filter(sporty, WRITTEN, pl.col("email").str.strip_chars() != "")


def mail_settings(partner: Partner, mail_port: int, journal: str, folder: Path, profiles: int) -> dict[str, str]:
    """What a worker is told: the sandbox's offers and so many profiles, a mail server, a journal, its files."""
    source = folder / "profiles.parquet"
    sample_profiles().head(profiles).write_parquet(source)
    return {
        **partner.settings_of("offers"),
        "CAMPAIGN_PROFILES__PATH": str(source),
        "CAMPAIGN_JOURNAL__URL": journal,
        "CAMPAIGN_EMAIL__FOLDER": str(folder / "outbox"),
        "CAMPAIGN_EMAIL__SERVER__HOST": "127.0.0.1",
        "CAMPAIGN_EMAIL__SERVER__PORT": str(mail_port),
        "CAMPAIGN_EMAIL__SERVER__SECURITY": "none",
    }


def deployed_side_by_side(client: SyncPrefectClient) -> UUID:
    """The deployment, changed so that its runs need not wait for each other."""
    deployment = client.read_deployment_by_name("Campaign/sports-weekend").id
    client.update_deployment(deployment, DeploymentUpdate(concurrency_limit=None))
    return deployment


def start_run(client: SyncPrefectClient, deployment: UUID, campaign: str) -> UUID:
    """Ask for a run that mails the campaign, under this name."""
    parameters = {"name": campaign, "business_date": DAY.isoformat(), "channel": {"kind": "email"}}
    return client.create_flow_run_from_deployment(deployment, parameters=parameters).id


def sent(journal: str) -> set[str]:
    """Keys of the messages that the journal calls sent."""
    with engine_of(journal).connect() as connection:
        return {*connection.scalars(sa.select(MESSAGES.c.key).where(MESSAGES.c.state == State.SENT))}


def senders(journal: str) -> set[str]:
    """Runs that the journal has messages of; none before there is a journal."""
    with engine_of(journal).connect() as connection:
        if not sa.inspect(connection).has_table(MESSAGES.name):
            return set()
        return {*connection.scalars(sa.select(MESSAGES.c.sender))}
