"""Certificates that do not verify, wherever in a chain of errors the reason is."""

import ssl


def verification_failure(error: BaseException | None) -> str | None:
    """Why a certificate did not verify; None where that is not what failed."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
