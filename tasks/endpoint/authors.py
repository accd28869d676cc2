"""What an endpoint may do that an author describes in parameters: less than one of the operator's settings.

It calls hosts of an allow list only, is sent allowed columns only, trusts no authorities that the operator does not
trust, and can lower limits, never raise them.
"""

from collections.abc import Collection
from pathlib import Path

from tasks.endpoint.endpoint import Calls, Endpoint
from tasks.endpoint.inbound import InboundMapping
from tasks.errors import EndpointNotAllowed
from tasks.http.exchange import Connection
from tasks.http.network import canonical_host, check_url, is_allowed
from tasks.settings import Settings
from tasks.tables.transitions import quoted

OPERATOR = (
    "Leave it out, or ask the operator: an endpoint of the settings may do so (CAMPAIGN_ENDPOINTS), and one of a"
    " block where CAMPAIGN_NETWORK__ENDPOINT_BLOCKS says so."
)
CONNECTION_LIMITS = ("retries", "retry_after_limit_seconds", "backoff_limit_seconds")


def described_by_author(
    endpoint: Endpoint, settings: Settings, *, ca_files: Collection[Path], made: Collection[str]
) -> None:
    """Check an endpoint that is described in parameters, before anything is sent or its files are read.

    In: the endpoint; the authority files that the operator's endpoints trust; the columns whose values are made in
    parameters too, so that their names say nothing about what they hold.
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
    if endpoint.ca_file is not None and endpoint.ca_file.resolve() not in {file.resolve() for file in ca_files}:
        raise _refused(endpoint, f"names the ca_file '{endpoint.ca_file}', which no endpoint of the settings has")
    if endpoint.client_certificate is not None or endpoint.client_key is not None:
        raise _refused(endpoint, "names a client certificate (client_certificate, client_key)")
    inbound = endpoint.inbound
    if inbound.allow_profile_level:
        raise _refused(endpoint, "allows profile-level data (allow_profile_level)")
    keys = InboundMapping.model_fields["profile_keys"].default
    lacking = [key for key in keys if key not in inbound.profile_keys]
    if lacking:
        raise _refused(endpoint, f"leaves {quoted(lacking)} out of the profile keys")
    sent_keys = [column for column in inbound.columns if column in keys]
    if sent_keys:
        raise _refused(endpoint, f"would be sent {quoted(sent_keys)}, which tells profiles apart")
    unknown = [column for column in inbound.columns if column not in network.author_columns]
    if unknown:
        raise EndpointNotAllowed(
            name=endpoint.name,
            reason=f"would be sent {quoted(unknown)} of the audience",
            cure="Leave the column out, or ask the operator to name it in CAMPAIGN_NETWORK__AUTHOR_COLUMNS.",
        )
    relabelled = [column for column in inbound.columns if column in made]
    if relabelled:
        raise EndpointNotAllowed(
            name=endpoint.name,
            reason=f"would be sent {quoted(relabelled)}, which the parameters make of other columns",
            cure="Leave it out of the audience's fields and of its source's columns; the operator can make it in"
            " CAMPAIGN_PROFILES.",
        )
    for name, (own, most) in {**endpoint.raised_limits(), **_raised(endpoint)}.items():
        raise _refused(endpoint, f"raises the limit {name} to {own}, over {most}")


def _refused(endpoint: Endpoint, reason: str) -> EndpointNotAllowed:
    return EndpointNotAllowed(name=endpoint.name, reason=reason, cure=OPERATOR)


def _raised(endpoint: Endpoint) -> dict[str, tuple[object, object]]:
    """Limits beside the documented ones that are higher than their defaults."""
    limits = [
        *((name, getattr(endpoint, name), Connection.model_fields[name].default) for name in CONNECTION_LIMITS),
        ("limit_wait_seconds", endpoint.limit_wait_seconds, Endpoint.model_fields["limit_wait_seconds"].default),
        ("inbound.max_rows", endpoint.inbound.max_rows, InboundMapping.model_fields["max_rows"].default),
    ]
    if endpoint.pagination is not None:
        most = type(endpoint.pagination).model_fields["max_pages"].default
        limits.append(("pagination.max_pages", endpoint.pagination.max_pages, most))
    if endpoint.calls is not None:
        names = ("parallel", "max_calls", "max_bytes")
        limits += [(f"calls.{n}", getattr(endpoint.calls, n), Calls.model_fields[n].default) for n in names]
    return {name: (own, most) for name, own, most in limits if own > most}
