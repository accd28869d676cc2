"""Providers whose lists of bounces, blocks and complaints the flow Feedback reads, as data: what is asked and read.

Sources: Twilio SendGrid's "Suppressions" and Postmark's "Bounce API", as documented by them.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.inbound import InboundMapping
from tasks.endpoint.pagination import Offset
from tasks.feedback.report import Kind
from tasks.feedback.services import Meaning, RowMapping

OVERLAP = timedelta(days=1)
"""How much is read again: providers add entries late, and duplicates are kept once."""


class ProviderList(BaseModel):
    """One list of a provider."""

    model_config = ConfigDict(frozen=True)

    endpoint: Endpoint
    mapping: RowMapping
    since: str
    """Query parameter of the earliest moment that is asked for."""
    since_as: Literal["seconds", "date"] = "seconds"

    def asked(self, access: "ProviderAccess", read_to: str) -> Endpoint:
        """The endpoint as it is asked: with the operator's account, for what is new."""
        query: dict[str, JsonValue] = dict(self.endpoint.inbound.query)
        if read_to:
            first = datetime.fromisoformat(read_to) - OVERLAP
            query[self.since] = int(first.timestamp()) if self.since_as == "seconds" else first.date().isoformat()
        path = self.endpoint.url.partition("://")[2].partition("/")[2]
        return self.endpoint.model_copy(
            update={
                "account": access.account,
                "url": f"{access.address.rstrip('/')}/{path}" if access.address else self.endpoint.url,
                "ca_file": access.ca_file,
                "inbound": InboundMapping(query=query),
            }
        )


class ProviderAccess(BaseModel):
    """How a provider is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: str = Field(
        default="",
        title="External account",
        description="Prefect block with the credentials, <kind>/<name>.",
    )
    address: str = Field(
        default="", title="Address", description="https address instead of the usual one, as for a region."
    )
    ca_file: str | None = Field(
        default=None, title="Certificate authority file", description="PEM file to trust instead of the system's."
    )


def _text(key: str) -> OutboundColumn:
    return OutboundColumn(key=key, optional=True, max_length=None)


def _sendgrid(name: str, mapping: RowMapping) -> ProviderList:
    return ProviderList(
        endpoint=Endpoint(
            name=f"sendgrid-{name.replace('_', '-')}",
            url=f"https://api.sendgrid.com/v3/suppression/{name}",
            method="GET",
            pagination=Offset(parameter="offset", limit_parameter="limit", limit=500, max_pages=200),
            outbound=OutboundMapping(
                columns={
                    "email": _text("email"),
                    "at": OutboundColumn(key="created", type="integer", optional=True),
                    "status": _text("status"),
                    "reason": _text("reason"),
                },
                path="[]",
            ),
            cache_expiry=timedelta(0),
            on_failure="transition",
        ),
        mapping=mapping,
        since="start_time",
    )


def _every_row_is(kind: Kind, status: str = "") -> RowMapping:
    return RowMapping(status="status", detail="reason", kind=Meaning(kind=kind, status=status))


SENDGRID = (
    _sendgrid("bounces", _every_row_is(Kind.BOUNCED)),
    _sendgrid("blocks", _every_row_is(Kind.BOUNCED)),
    _sendgrid("invalid_emails", _every_row_is(Kind.BOUNCED, "5.1.3")),
    _sendgrid("spam_reports", _every_row_is(Kind.COMPLAINED)),
    _sendgrid("unsubscribes", _every_row_is(Kind.UNSUBSCRIBED)),
)

NOTHING = Meaning()
BOUNCED = Meaning(kind=Kind.BOUNCED)
NO_SUCH_ADDRESS = Meaning(kind=Kind.BOUNCED, status="5.1.1")
POSTMARK_TYPES = {
    "HardBounce": NO_SUCH_ADDRESS,
    "BadEmailAddress": Meaning(kind=Kind.BOUNCED, status="5.1.3"),
    "SpamComplaint": Meaning(kind=Kind.COMPLAINED),
    "Unsubscribe": Meaning(kind=Kind.UNSUBSCRIBED),
    "ManuallyDeactivated": BOUNCED,
    **dict.fromkeys(
        (
            "SoftBounce",
            "DnsError",
            "SpamNotification",
            "VirusNotification",
            "Blocked",
            "SMTPApiError",
            "DMARCPolicy",
        ),
        BOUNCED,
    ),
    **dict.fromkeys(
        (
            "Transient",
            "Subscribe",
            "AutoResponder",
            "AddressChange",
            "OpenRelayTest",
            "Unknown",
            "ChallengeVerification",
            "Unconfirmed",
            "TemplateRenderingFailed",
            "InboundError",
        ),
        NOTHING,
    ),
}
"""Postmark's bounce types. `HardBounce` is theirs for an address that does not exist."""

POSTMARK = (
    ProviderList(
        endpoint=Endpoint(
            name="postmark-bounces",
            url="https://api.postmarkapp.com/bounces",
            method="GET",
            pagination=Offset(
                parameter="offset", limit_parameter="count", limit=500, total="TotalCount", max_pages=20
            ),
            outbound=OutboundMapping(
                path="Bounces",
                columns={
                    "email": _text("Email"),
                    "at": OutboundColumn(key="BouncedAt", type="datetime", optional=True, on_bad_value="null"),
                    "type": _text("Type"),
                    "details": _text("Details"),
                },
            ),
            cache_expiry=timedelta(0),
            on_failure="transition",
        ),
        mapping=RowMapping(detail="details", type="type", meanings=POSTMARK_TYPES),
        since="fromdate",
        since_as="date",
    ),
)

PROVIDERS: Mapping[str, tuple[ProviderList, ...]] = {"sendgrid": SENDGRID, "postmark": POSTMARK}
