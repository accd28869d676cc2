"""What an endpoint may do that an author describes in parameters: less than one of the operator's settings.

It calls hosts of an allow list only, is sent allowed columns only, and can lower limits, never raise them.
"""

from tasks.endpoint.endpoint import Calls, Endpoint
from tasks.endpoint.inbound import InboundMapping
from tasks.errors import EndpointNotAllowed
from tasks.http.exchange import Connection
from tasks.http.network import canonical_host, check_url, is_allowed
from tasks.settings import Settings
from tasks.tables.transitions import quoted

OPERATOR = "Ask the operator to add the endpoint to the settings (CAMPAIGN_ENDPOINTS)"
CONNECTION_LIMITS = ("retries", "retry_after_limit_seconds", "backoff_limit_seconds")


def described_by_author(endpoint: Endpoint, settings: Settings) -> None:
    """Check an endpoint that is described in parameters, before anything is sent.

    Errors: `EndpointNotAllowed`, saying what is not allowed and who can allow it; those of `check_url`.
    """
    network = settings.network
    url = check_url(endpoint.url, network.allowed_hosts)
    if not is_allowed(canonical_host(url.host), url.port or 443, network.author_hosts):
        raise EndpointNotAllowed(
            name=endpoint.name,
            reason=f"calls '{url.host}', which is not among the hosts for such endpoints",
            cure="Use an endpoint of the settings, or ask the operator to name the host in"
            " CAMPAIGN_NETWORK__AUTHOR_HOSTS.",
        )
    inbound = endpoint.inbound
    if inbound.allow_profile_level:
        raise _refused(endpoint, "allows profile-level data (allow_profile_level)")
    lacking = [
        key for key in InboundMapping.model_fields["profile_keys"].default if key not in inbound.profile_keys
    ]
    if lacking:
        raise _refused(endpoint, f"leaves {quoted(lacking)} out of the profile keys")
    unknown = [column for column in inbound.columns if column not in network.author_columns]
    if unknown:
        raise EndpointNotAllowed(
            name=endpoint.name,
            reason=f"would be sent {quoted(unknown)} of the audience",
            cure="Leave the column out, or ask the operator to name it in CAMPAIGN_NETWORK__AUTHOR_COLUMNS.",
        )
    for name, (own, most) in {**endpoint.raised_limits(), **_raised(endpoint)}.items():
        raise _refused(endpoint, f"raises the limit {name} to {own}, over {most}")


def _refused(endpoint: Endpoint, reason: str) -> EndpointNotAllowed:
    return EndpointNotAllowed(name=endpoint.name, reason=reason, cure=f"{OPERATOR}, or leave it out.")


def _raised(endpoint: Endpoint) -> dict[str, tuple[object, object]]:
    """Limits beside the documented ones that are higher than their defaults."""
    limits = [
        *((name, getattr(endpoint, name), Connection.model_fields[name].default) for name in CONNECTION_LIMITS),
        ("inbound.max_rows", endpoint.inbound.max_rows, InboundMapping.model_fields["max_rows"].default),
    ]
    if endpoint.pagination is not None:
        most = type(endpoint.pagination).model_fields["max_pages"].default
        limits.append(("pagination.max_pages", endpoint.pagination.max_pages, most))
    if endpoint.calls is not None:
        names = ("parallel", "max_calls", "max_bytes")
        limits += [(f"calls.{n}", getattr(endpoint.calls, n), Calls.model_fields[n].default) for n in names]
    return {name: (own, most) for name, own, most in limits if own > most}
