"""What is being sent, and the key by which a message is the same message in every run."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class Send(BaseModel):
    """One campaign on one business date. Runs of the same send never deliver a profile twice."""

    model_config = ConfigDict(frozen=True)

    campaign: str = Field(
        title="Campaign",
        description="Identifier of the campaign: lower-case letters, digits and hyphens.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    label: str = Field(title="Label", description="Name of the campaign as people read it.")
    business_date: date = Field(title="Business date", description="The day that the campaign is run for.")

    def message_key(self, channel: str, profile_id: str, variant: str = "") -> str:
        """Name of the one message that this send may deliver to a profile over a channel.

        Equal in every run and on every machine, and safe as a file name: 40 hexadecimal digits, and a dot and the
        variant's code where the message has one. The digits are the same for every variant: who gets one of them
        gets no other.
        """
        digits = next(self.message_keys(channel, [profile_id]))
        return f"{digits}.{variant}" if variant else digits

    def message_keys(self, channel: str, profile_ids: Iterable[str]) -> Iterator[str]:
        """The keys of the messages, without variant, that this send may deliver to profiles over a channel."""
        same = hashlib.sha256("\x1f".join((self.campaign, self.business_date.isoformat(), channel, "")).encode())
        for profile_id in profile_ids:
            digest = same.copy()
            digest.update(profile_id.encode())
            yield digest.hexdigest()[:40]
