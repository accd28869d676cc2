"""What runs are told of a sandbox partner."""

from deployments.sandbox.partner import PATHS, Partner


def settings_at_once(partner: Partner) -> dict[str, str]:
    """The settings of a partner, with retries that do not keep a test waiting."""
    return {**partner.settings, **{f"CAMPAIGN_{service.upper()}__BACKOFF_SECONDS": "0.05" for service in PATHS}}
