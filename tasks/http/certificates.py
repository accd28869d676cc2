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


ClientCertificate = Annotated[
    Path | None,
    Field(
        title="Client certificate file",
        description="PEM file of our own certificate and its chain, for servers that ask who calls (mTLS).",
    ),
]
ClientKey = Annotated[
    Path | None,
    Field(
        title="Client key file",
        description="PEM file of that certificate's key, without a password; left out: in the same file.",
    ),
]


def trusted_certificates(
    ca_file: Path | None, client_certificate: Path | None = None, client_key: Path | None = None
) -> ssl.SSLContext:
    """TLS settings that verify name and chain against the authorities of `ca_file`, or else the system's.

    With a client certificate the server is told who calls. Errors: `SourceUnreadable`.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        if ca_file is None:
            raise
        raise SourceUnreadable(
            what="certificate authority file",
            path=ca_file,
            reason=error.strerror or str(error),
            cure="Set ca_file to a PEM file, or leave it out.",
        ) from None
    if client_certificate is not None:
        try:
            # Without a password that is given, OpenSSL would ask the terminal for one.
            context.load_cert_chain(client_certificate, client_key, password=lambda: b"")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise SourceUnreadable(
                what="client certificate or key file",
                path=client_certificate,
                reason=getattr(error, "strerror", None) or str(error),
                cure="Set client_certificate and client_key to PEM files that belong together, or leave them out.",
            ) from None
    return context


def verification_failure(error: BaseException | None) -> str | None:
    """Why a certificate did not verify; None where that is not what failed."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
