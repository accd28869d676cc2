"""Which folders operations look through."""

from pathlib import Path

from flows.settings import CampaignSettings
from tasks.files.kept import kept
from tasks.operations.stores import Store, stores_of


def stores(settings: CampaignSettings) -> list[Store]:
    """Every folder that a campaign of these settings writes into."""
    return stores_of(
        {
            "outbox": settings.outbox.folder,
            "email": settings.email.folder,
            "storage": settings.storage.folder,
            "audiences": kept(Path("audiences")),
            "histories": kept(Path("histories")),
            "previews": Path("previews"),
        }
    )
