"""Certificates: which authorities a connection trusts, and why a certificate did not verify."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tasks.errors import SourceUnreadable

AuthorityFile = Annotated[
    Path | None,
    Field(
        title="Certificate authority file",
        description="PEM file of the authorities to trust instead of the system's.",
    ),
]
"""Setting of a connection: which authorities it trusts."""


def trusted_certificates(ca_file: Path | None) -> ssl.SSLContext:
    """TLS settings that verify name and chain against the authorities of `ca_file`, or else the system's.

    Errors: `SourceUnreadable`.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        if ca_file is None:
            raise
        raise SourceUnreadable(
            what="certificate authority file",
            path=ca_file,
            reason=error.strerror or str(error),
            cure="Set ca_file to a PEM file, or leave it out.",
        ) from None


def verification_failure(error: BaseException | None) -> str | None:
    """Why a certificate did not verify; None where that is not what failed."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
