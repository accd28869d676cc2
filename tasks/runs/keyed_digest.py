"""A keyed digest of what must not be read back: keys of caches and names of files may show it.

The key is drawn once and kept in a Prefect Secret block, so that all workers of a server make the same digest. A
digest without a key would tell a short secret to anybody who tries the likely ones.
"""

import hashlib
import hmac
import secrets
from contextlib import suppress
from functools import lru_cache

from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL

BLOCK = "campaign-digest-key"


def keyed_digest(text: str) -> str:
    """The digest of a text: 64 hexadecimal digits. Errors: those of a Prefect server that cannot be reached."""
    return hmac.digest(
        _key(str(PREFECT_API_URL.value())), text.encode("utf-8", "surrogatepass"), hashlib.sha256
    ).hex()


@lru_cache(maxsize=8)
def _key(server: str) -> bytes:  # noqa: ARG001  # another server keeps another key
    kept = _kept()
    if kept is None:
        with suppress(ValueError):  # another process was quicker
            Secret(value=secrets.token_hex(32)).save(BLOCK, _sync=True)  # type: ignore[call-arg]
        kept = _kept()
    if kept is None:
        raise RuntimeError(f"The Secret block '{BLOCK}' cannot be kept.")
    return kept.encode()


def _kept() -> str | None:
    try:
        block: Secret[str] = Secret.load(BLOCK, _sync=True)  # type: ignore[call-arg, assignment]
    except ValueError:
        return None
    return str(block.get())
