"""What is being sent, and the key by which a message is the same message in every run."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.characters import forbidden_character

DIGITS = 32
"""Length of a message key without its variant."""
VARIANT = "variant"
"""Column of messages: the variant that Personalization chose."""


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

    @field_validator("label")
    @classmethod
    def _is_one_line(cls, label: str) -> str:
        if character := forbidden_character(label):
            raise ValueError(f"the label has a line break or a control character, {character}")
        return label

    def message_key(self, channel: str, profile_id: str, variant: str | None = None) -> str:
        """Name of the one message that this send may deliver to a profile over a channel.

        Equal in every run and on every machine, and safe as a file name: 32 hexadecimal digits, and a dot and the
        variant's code where the message has one. The digits are the same for every variant: who gets one of them
        gets no other.
        """
        return next(self._keys(channel, [(profile_id, variant or "")]))

    def message_keys(self, channel: str, messages: pl.DataFrame) -> pl.Series:
        """The column `message_key` of messages: profile_id and, where there are variants, variant (text)."""
        named = messages.select("profile_id", *([VARIANT] if VARIANT in messages.columns else []))
        return pl.Series("message_key", self._keys(channel, named.iter_rows()), pl.String())

    def _keys(self, channel: str, named: Iterable[tuple[str, ...]]) -> Iterator[str]:
        same = hashlib.sha256("\x1f".join((self.campaign, self.business_date.isoformat(), channel, "")).encode())
        for profile_id, *variant in named:
            digest = same.copy()
            digest.update(profile_id.encode())
            yield ".".join([digest.hexdigest()[:DIGITS], *filter(None, variant)])


def parts_of(key: str) -> tuple[str, str]:
    """A message key's digits, by which the message is the same in every run, and its variant, if it has one."""
    return key[:DIGITS], key[DIGITS + 1 :]
