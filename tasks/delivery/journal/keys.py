"""The journal's key: hashes of addresses and ids of messages that only its holder can make or read.

A plain hash of a mail address, or of a profile's id, is guessed in seconds by hashing all that are likely.
"""

import hashlib
import hmac

import polars as pl
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from polars_hash import CryptographicHashingNameSpace as StableHash

from tasks.messages.address import normalized_address, normalized_addresses
from tasks.send import DIGITS

SHORTEST_KEY = 32
"""Characters."""


def fingerprint_of(key: bytes) -> str:
    """Tells whether two keys are the same, and nothing else about them."""
    return hmac.digest(key, b"fingerprint", "sha256").hex()


def address_hash(address: str, key: bytes) -> str:
    """Keyed hash of an address: equal for equal addresses in any spelling, and no address."""
    plain = hashlib.sha256(normalized_address(address).encode()).hexdigest()
    return hmac.digest(key, plain.encode(), "sha256").hex()


def address_hashes(addresses: pl.Series, key: bytes) -> pl.Series:
    """`address_hash` of each; null stays null."""
    address = normalized_addresses(addresses).to_frame()
    plain = StableHash(pl.col(addresses.name)).sha2_256()
    return address.select(StableHash(plain).hmac_sha256(key=key.decode())).to_series()


class MessageNames:
    """By which name the world knows a message: in its Message-ID and its bounce address.

    A message key is 128 bits, one block of AES. Encrypted, it is as good as random for everybody else, the same in
    every run, and the holder of the key reads which message it is from the name alone.
    """

    def __init__(self, key: bytes) -> None:
        block_key = hmac.digest(key, b"message names", "sha256")
        # One block at a time, and no two messages have the same: there is no pattern for ECB to show.
        self._cipher = Cipher(algorithms.AES(block_key), modes.ECB())  # noqa: S305

    def names_of(self, digits: str) -> str:
        """The names of message keys' digits, all in one text of 32 hexadecimal digits each."""
        return self._cipher.encryptor().update(bytes.fromhex(digits)).hex()

    def named(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Messages with the column `name` of each. In: message_key."""
        names = self.names_of("".join(messages["message_key"].str.head(DIGITS)))
        each = [names[begin : begin + DIGITS] for begin in range(0, len(names), DIGITS)]
        return messages.with_columns(pl.Series("name", each, pl.String()))

    def digits_of(self, name: str) -> str | None:
        """The digits of the message key that a name stands for; None for what cannot be a name."""
        try:
            block = bytes.fromhex(name)
        except ValueError:
            return None
        return self._cipher.decryptor().update(block).hex() if len(block) == 16 else None
