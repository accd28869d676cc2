"""What is being sent, and the key by which a message is the same message in every run."""

from datetime import date

import polars as pl
from polars_hash import CryptographicHashingNameSpace as StableHash
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.characters import forbidden_character

DIGITS = 32
"""Length of a message key without its variant."""
VARIANT = "variant"
"""Column of messages: the variant that Personalization chose."""
CODES_SHOWN = "codes"
"""Column of messages that show codes of pools: of each its number and the code, a list of structs."""


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
        one = pl.DataFrame(
            {"profile_id": [profile_id], VARIANT: [variant]}, schema_overrides={VARIANT: pl.String()}
        )
        return str(self.message_keys(channel, one).item())

    def message_keys(self, channel: str, messages: pl.DataFrame) -> pl.Series:
        """The column `message_key` of messages: profile_id and, where there are variants, variant (text)."""
        send = "\x1f".join((self.campaign, self.business_date.isoformat(), channel, ""))
        digits = StableHash(pl.concat_str(pl.lit(send), "profile_id")).sha2_256().str.head(DIGITS)
        key = digits
        if VARIANT in messages.columns:
            of_variant = pl.concat_str(digits, pl.lit("."), VARIANT)
            key = pl.when(pl.col(VARIANT) != "").then(of_variant).otherwise(digits)
        return messages.select(key.alias("message_key")).to_series()


def parts_of(key: str) -> tuple[str, str]:
    """A message key's digits, by which the message is the same in every run, and its variant, if it has one."""
    return key[:DIGITS], key[DIGITS + 1 :]
