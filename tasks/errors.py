"""Every expected failure: its class, code, sentence and remedy.

CampaignError
├── ConfigurationError        CMP-100      a setting is missing or wrong
├── ExtraMissing              CMP-101      packages of an extra are needed and not installed
├── CampaignUnknown           CMP-102      a folder declares no campaign of this name
├── CampaignNotShown          CMP-103      a campaign's messages cannot be shown without a run
├── CodeUnknown               CMP-104      no error has a code that was asked for
├── CampaignNotWritten        CMP-105      the files of a new campaign cannot be written
├── ServerUnreachable         CMP-106      the Prefect server that is set does not take a run
├── ServerNotStarted          CMP-107      Prefect's server for local runs does not start
├── ServerInUse               CMP-108      a Prefect server that should be stopped is in use
├── SourceMissing             CMP-110      a file that should be read is not there
├── SourceUnreadable          CMP-111      a file is there but cannot be read as what it should be
├── ColumnsMissing            CMP-112      a table lacks columns that an activity needs
├── FilterInvalid             CMP-113      a filter is not an SQL condition over the table's columns
├── ColumnTaken               CMP-114      a column that an activity would add is there already
├── ExpressionInvalid         CMP-115      an expression is not SQL over the table's columns
├── PopulationUnknown         CMP-116      an option names an inbound population that is not there
├── AudienceMissing           CMP-117      no audience is stored under a name
├── AudienceTaken             CMP-118      an audience that should be created is stored already
├── StoreUnwritable           CMP-119      a file that is kept between runs cannot be written
├── CardinalityViolated       CMP-120      a relation has more, or fewer, rows for a key than it allows
├── KeyTypesDiffer            CMP-121      the columns of a relation are of different types
├── ColumnTypesDiffer         CMP-122      a column has different types in the populations to be brought together
├── HistoryUndecided          CMP-123      whom an earlier run was given may still get its effect, or may not
├── TemplatesUnreadable       CMP-130      a template file is missing or is not text
├── TemplatesInvalid          CMP-131      templates with errors, listed with file and line
├── PreviewUnwritable         CMP-132      the folder of previews cannot be written
├── PartitionGone             CMP-134      the file of a partition is not in the result storage any more
├── ResultsUnwritable         CMP-135      the result storage cannot be written
├── TransitionUnknown         CMP-136      an activity has no outbound transition of a name
├── TemplatesEndless          CMP-137      templates take more than their budget of a run
├── OutboxUnwritable          CMP-140      the outbox folder cannot be written
├── ValueRefused              CMP-150      a value is bad in a column that allows none
├── MailServerUnavailable     CMP-151      the mail server is away, or takes nothing, for longer than is waited
├── MailServerRefuses         CMP-152      the mail server refuses the sender, not a message
├── MessageFileUnreadable     CMP-153      a file that should go into every message cannot be read
├── SendNotConfirmed          CMP-154      nobody confirmed a send that asks for it
├── ProviderRefuses           CMP-155      a provider of SMS, push or in-app messages refuses the sender
├── ProviderUnavailable       CMP-156      such a provider takes nothing for longer than is waited
├── JournalUnavailable        CMP-157      the journal cannot be read or written
├── SenderBlamed              CMP-158      many people were refused with the same words: the sender is
├── JournalBehind             CMP-159      the journal knows less than the send's own record: another, an older one
├── DatabaseFailed            CMP-160      a database cannot be reached, or refuses what it was asked
├── OutsideStorage            CMP-161      a file name leads out of the storage folder
├── ColumnsUnexpected         CMP-162      a file has columns that it should not have
├── TransferFailed            CMP-163      a file cannot be transferred
├── FilesMissing              CMP-164      there is no file to transfer
├── OutsideRoot               CMP-165      a parameter names a path that is not under the operator's root
├── CampaignNameTaken         CMP-166      a run would deliver under a name that belongs to another deployment
├── ParameterInvalid          CMP-167      a parameter's value does not go with the settings that it is merged into
├── SenderNotAllowed          CMP-168      parameters would send from an address that the operator does not allow
├── DatabaseBusy              CMP-169      another transaction holds what this one needs for too long
├── SignalRefused             CMP-170      a signal's parameters are not those that it declares
├── MailboxUnreadable         CMP-190      the mailbox of bounces and complaints cannot be read
├── FeedbackIncomplete        CMP-191      some sources of feedback could not be read
├── SendForgotten             CMP-192      a send is so old that the journal has forgotten who got it
├── DecisionIncomplete        CMP-193      an operation lacks its object, its author or the reason
├── PoolUnknown               CMP-194      there is no pool of codes of a name
├── PoolDry                   CMP-195      a pool has fewer codes than messages need
└── ApiError                  (WKF-...)    the External API activity, with Adobe Campaign's codes
    ├── ProfileLevelCall      CMP-180      the mapping would send one row per profile
    ├── LimitNotFree          CMP-181      a concurrency or rate limit of Prefect gave no place in time
    ├── AccountNotForHost     CMP-182      the external account does not name the host that it would be sent to
    ├── EndpointNotAllowed    CMP-183      an endpoint of parameters does what only the operator may allow
    ├── TooManyCalls          CMP-184      a call for each key would be more calls than allowed
    ├── HostPaused            CMP-185      a host failed so often lately that it is left alone for a while
    ├── AuthorizationServerUnreachable  CRL-290199
    ├── CredentialsRefused    CRL-290200
    ├── UrlNotSecure          WKF-560238
    ├── ResponseTooLarge      WKF-560239
    ├── TooManyPages          WKF-560239
    ├── ResponseShapeInvalid  WKF-560240
    │   ├── SampleInvalid     WKF-560240      no mapping can be made from a sample
    │   └── PagesInvalid      WKF-560240      its pages do not follow each other as the pagination says
    ├── ResponseMalformed     WKF-560241
    ├── HostNotAllowed        WKF-560244
    ├── UrlUnparsable         WKF-560245
    ├── HeaderNameInvalid     WKF-560246
    ├── HeaderValueInvalid    WKF-560247
    ├── HeaderNameReserved    WKF-560248
    ├── RequestBodyInvalid    WKF-560249
    ├── RequestTooLarge       WKF-560250
    ├── OAuthSetupInvalid     WKF-560278
    ├── AccountMissing        WKF-560280
    ├── AccountDisabled       WKF-560281
    ├── AccountOfWrongKind    WKF-560282
    ├── TokenNotFetched       WKF-560283
    └── RequestFailed         WKF-560246
        ├── StatusRefused             the partner answered with a status other than 2xx
        ├── ContentTypeRefused        the answer is not of the type that was asked for
        ├── CertificateInvalid        the partner's certificate does not verify
        ├── PartnerUnreachable        no connection, or it broke
        └── DeadlineExceeded          the exchange took longer than its limit in all

A class says `sentence` and `remedy` as formats of its facts; `str(error)` is both and the code, so whoever
prints the error prints all that a user needs. Raise with the facts: `SourceMissing(what=..., path=...)`.
"""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any, ClassVar

RETRYABLE_STATUSES = frozenset({408, 425, 429})
"""Client-side statuses that may pass; every 5xx may pass too."""


def is_retryable_status(status: int) -> bool:
    """Whether a request that was answered with this HTTP status may succeed if it is made again."""
    return status >= 500 or status in RETRYABLE_STATUSES


class CampaignError(Exception):
    """An expected failure. Ends a run with one sentence and a remedy, never with a stack trace.

    Facts given by keyword fill `sentence` and `remedy`, and stay readable in `facts`. A ready message may be
    given instead: Prefect and pickle rebuild stored errors that way.
    """

    code: ClassVar[str] = "CMP-000"
    sentence: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = ""

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        self.facts = facts
        if message is None:
            said = (_filled(part, facts).strip() for part in (self.sentence, self.remedy))
            message = " ".join(filter(None, (*said, f"({self.code})")))
        super().__init__(message)


MARKS = (".", "?", "!")
UNSAID = "no reason was given"
"""Where a system's or a library's error has no words."""


def _filled(text: str, facts: Mapping[str, Any]) -> str:
    """A format with its facts. Facts are also others' sentences: their last mark and ours make one."""
    said = ""
    for literal, name, spec, conversion in Formatter().parse(text):
        if said.endswith(MARKS) and literal.startswith("."):
            said += literal[1:]
        elif literal.startswith(")"):
            said = said.rstrip(".") + literal
        else:
            said += literal
        if name is not None:
            field = f"{{{name}{'!' if conversion else ''}{conversion or ''}{':' if spec else ''}{spec}}}"
            fact = "" if facts[name] is None else field.format(**facts).rstrip()
            said += UNSAID if name == "reason" and not fact else fact
    return said


class ConfigurationError(CampaignError):
    """A setting is missing or wrong."""

    code = "CMP-100"
    sentence = "The setting {setting} is not usable: {reason}."
    remedy = "Set it in the environment or in .env; `campaign settings` describes every setting."


class ExtraMissing(CampaignError):
    """Packages of an extra are needed and not installed."""

    code = "CMP-101"
    sentence = "{purpose} needs packages that are not installed."
    remedy = "Install campaign-flows[{extra}]."


class CampaignUnknown(CampaignError):
    """The folder declares no campaign of this name."""

    code = "CMP-102"
    sentence = "There is no campaign '{name}' in {file}, only {present}."
    remedy = "{cure}"


class CampaignNotShown(CampaignError):
    """A campaign's messages cannot be shown without a run."""

    code = "CMP-103"
    sentence = "The messages of '{flow}' cannot be shown: {reason}."
    remedy = "Call `personalization` in the flow itself, before the channel."


class CodeUnknown(CampaignError):
    """No error has the code that was asked for."""

    code = "CMP-104"
    sentence = "No error has the code '{given}'."
    remedy = "{cure}"


class CampaignNotWritten(CampaignError):
    """The files of a new campaign cannot be written."""

    code = "CMP-105"
    sentence = "The campaign '{name}' cannot be written: {reason}."
    remedy = "{cure}"


class ServerUnreachable(CampaignError):
    """The Prefect server that is set does not take a run."""

    code = "CMP-106"
    sentence = "The Prefect server of PREFECT_API_URL, {url}, cannot be used: {reason}."
    remedy = "Correct it, or unset PREFECT_API_URL: the run then uses a server of its own, kept in the background."


class ServerNotStarted(CampaignError):
    """Prefect's server for local runs does not start."""

    code = "CMP-107"
    sentence = "Prefect's server for local runs has ended while it started."
    remedy = "The last lines of {log} say why."


class ServerInUse(CampaignError):
    """A Prefect server that should be stopped is in use."""

    code = "CMP-108"
    sentence = "Prefect's server, process {pid}, is not stopped."
    remedy = "{cure}"


class SourceMissing(CampaignError):
    """A file that should be read is not there."""

    code = "CMP-110"
    sentence = "The {what} '{path}' does not exist."
    remedy = "Set {setting} to an existing file{hint}."


class SourceUnreadable(CampaignError):
    """A file is there but cannot be read as what it should be."""

    code = "CMP-111"
    sentence = "The {what} '{path}' cannot be read: {reason}."
    remedy = "{cure}"


class ColumnsMissing(CampaignError):
    """A table lacks columns that an activity needs."""

    code = "CMP-112"
    sentence = "{activity} needs the column(s) {missing}, and {where} has only {present}."
    remedy = "{cure}"


class FilterInvalid(CampaignError):
    """A filter is not an SQL condition over the table's columns."""

    code = "CMP-113"
    sentence = "The filter {filter!r} is not an SQL condition: {reason}."
    remedy = "Write it over the columns {present}."


class ColumnTaken(CampaignError):
    """A column that an activity would add is there already."""

    code = "CMP-114"
    sentence = "{activity} cannot add the column '{name}': the table already has it."
    remedy = "Choose another name."


class ExpressionInvalid(CampaignError):
    """An expression is not SQL over the table's columns."""

    code = "CMP-115"
    sentence = "{activity} cannot use the expression {expression!r}: {reason}."
    remedy = "Write it over the columns {present}."


class PopulationUnknown(CampaignError):
    """An option names an inbound population that is not there."""

    code = "CMP-116"
    sentence = "{activity} has no inbound population {name}, only {present}."
    remedy = "Give it one, or correct the option."


class TransitionUnknown(CampaignError):
    """An activity has no outbound transition of this name."""

    code = "CMP-136"
    sentence = "'{activity}' has no outbound transition '{name}', only {present}."
    remedy = "{cure}"


class AudienceMissing(CampaignError):
    """No audience is stored under a name."""

    code = "CMP-117"
    sentence = "There is no audience '{name}' in '{folder}'."
    remedy = "{cure}"


class AudienceTaken(CampaignError):
    """An audience that should be created is stored already."""

    code = "CMP-118"
    sentence = "The audience '{name}' cannot be created in '{folder}': it already exists."
    remedy = "Choose another name, or save with the mode replace or complete."


class StoreUnwritable(CampaignError):
    """A file that is kept between runs cannot be written."""

    code = "CMP-119"
    sentence = "'{path}' cannot be written: {reason}."
    remedy = (
        "Free disk space or correct its folder's permissions, or choose another one; what was there is unchanged."
    )


class HistoryUndecided(CampaignError):
    """Whom an earlier run was given may still get its effect, or may not."""

    code = "CMP-123"
    sentence = (
        "The history '{history}' cannot tell whom to leave out: the flow run {run}, which was given {people}"
        " people, {reason}."
    )
    remedy = "{cure}"


class CardinalityViolated(CampaignError):
    """A relation has more, or fewer, rows for a key than it allows."""

    code = "CMP-120"
    sentence = "'{name}' has {rows} rows for {key}; the relation allows {cardinality}."
    remedy = "Deduplicate '{name}' on {columns} first, or correct its source."


class KeyTypesDiffer(CampaignError):
    """The columns of a relation are of different types."""

    code = "CMP-121"
    sentence = "'{name}' cannot be linked: '{here}' is {here_type} and '{there}' is {there_type}."
    remedy = "Give both the same type."


class ColumnTypesDiffer(CampaignError):
    """A column has different types in the populations that are brought together."""

    code = "CMP-122"
    sentence = "{activity} cannot use the column '{column}': it is {types}."
    remedy = "Give it one type, or leave it out."


class TemplatesUnreadable(CampaignError):
    """A template file is missing or is not text."""

    code = "CMP-130"
    sentence = "The template '{path}' cannot be read: {reason}."
    remedy = "Put a UTF-8 text file there, or set CAMPAIGN_TEMPLATES__FOLDER to the folder that has it."


class TemplatesInvalid(CampaignError):
    """Templates with errors, each listed with file and line."""

    code = "CMP-131"
    sentence = "The templates in '{folder}' have {count} error(s): {errors}."
    remedy = "Correct them; nothing was rendered."


class TemplatesEndless(CampaignError):
    """Templates that take more than their budget of a run."""

    code = "CMP-137"
    sentence = "The templates in '{folder}' take too long: {what}, because of {construct} ({where})."
    remedy = "Write that place more simply; the log says what each part of the messages costs."


class PreviewUnwritable(CampaignError):
    """The folder of previews cannot be written."""

    code = "CMP-132"
    sentence = "The preview '{path}' cannot be written: {reason}."
    remedy = (
        "Free disk space or correct its folder's permissions, or name another folder in the options of Preview."
    )


class PartitionGone(CampaignError):
    """The file of a partition is not in the result storage any more, or cannot be read."""

    code = "CMP-134"
    sentence = "The partition '{file}' cannot be read from the result storage: {reason}."
    remedy = "Start a new run: it selects the audience again, and nothing is sent twice."


class ResultsUnwritable(CampaignError):
    """The result storage cannot be written."""

    code = "CMP-135"
    sentence = "The partition '{file}' cannot be written to the result storage: {reason}."
    remedy = (
        "Free disk space, correct its permissions, or set another PREFECT_LOCAL_STORAGE_PATH or result storage."
    )


class OutboxUnwritable(CampaignError):
    """The outbox folder cannot be written."""

    code = "CMP-140"
    sentence = "The outbox '{path}' cannot be written: {reason}."
    remedy = (
        "Free disk space or correct its permissions, and run again: nothing is sent twice. Choose no other folder"
        " for a send that has begun: this one knows what was delivered."
    )


class ValueRefused(CampaignError):
    """A value is bad in a column that allows none. The row, not the value: it may be somebody's."""

    code = "CMP-150"
    sentence = "Row {row} of the column '{column}' {reason}."
    remedy = "Correct the source, or choose another on_bad_value in the column's definition."


class DatabaseFailed(CampaignError):
    """A database cannot be reached, or refuses what it was asked."""

    code = "CMP-160"
    sentence = "The database '{database}' reports an error: {reason}."
    remedy = "Check its address and rights; nothing of this step was written."


class OutsideStorage(CampaignError):
    """A file name leads out of the storage folder."""

    code = "CMP-161"
    sentence = "The file '{file}' is not inside the storage folder."
    remedy = "Name it relative to the folder (CAMPAIGN_STORAGE__FOLDER), without '..' and links that lead out."


class ColumnsUnexpected(CampaignError):
    """A file has columns that it should not have."""

    code = "CMP-162"
    sentence = "{where} has the unexpected column(s) {columns}; known are {known}."
    remedy = "Add definitions for them, or let the option other_columns ignore them."


class TransferFailed(CampaignError):
    """A file cannot be transferred. `retryable` says whether a later attempt may succeed."""

    code = "CMP-163"
    sentence = "The transfer with {where} failed: {reason}."
    remedy = "Check the account, its rights and the file's name."

    @property
    def retryable(self) -> bool:
        """Whether the same transfer may succeed if it is made again."""
        return bool(self.facts.get("retryable", False))


class FilesMissing(CampaignError):
    """There is no file to transfer."""

    code = "CMP-164"
    sentence = "There is no file '{pattern}' in {where}."
    remedy = "Wait for it, correct the name, or set the option when_none to nothing."


class OutsideRoot(CampaignError):
    """A parameter names a path that is not under the root that the operator gives for it."""

    code = "CMP-165"
    sentence = "The {what} '{path}' leads to something that is not a file or folder under '{root}'."
    remedy = "Name an existing one; the operator can set another root in {setting}."


class CampaignNameTaken(CampaignError):
    """A run would deliver under a name that belongs to another deployment, and so keep it from delivering."""

    code = "CMP-166"
    sentence = "The campaign name '{name}' belongs to {owner}: this run cannot deliver under it."
    remedy = "Choose another name, or run that deployment."


class ParameterInvalid(CampaignError):
    """A parameter's value does not go with the model that it is merged into."""

    code = "CMP-167"
    sentence = "The parameter '{parameter}' is not usable: {reason}."
    remedy = "Correct it; the form and `campaign settings` describe valid values."


class SenderNotAllowed(CampaignError):
    """Parameters would send from an address that the operator does not allow."""

    code = "CMP-168"
    sentence = "Campaigns of parameters may not send from '{address}'."
    remedy = (
        "Leave the sender empty to use that of the settings, or ask the operator to name the address or its domain"
        " in CAMPAIGN_SENDERS."
    )


class DatabaseBusy(CampaignError):
    """Another transaction holds what this one needs for longer than is waited."""

    code = "CMP-169"
    sentence = "The database '{database}' is busy: another transaction had not ended after {seconds} seconds."
    remedy = "Repeat this step when the other one has ended; nothing of this one was written."


class SignalRefused(CampaignError):
    """A signal's parameters are not those that it declares."""

    code = "CMP-170"
    sentence = "The signal '{name}' cannot be sent: {reason}."
    remedy = "Give the declared parameters, in their types."


class JournalUnavailable(CampaignError):
    """The journal cannot be read or written."""

    code = "CMP-157"
    sentence = "The journal of deliveries ({url}) is not usable: {reason}."
    remedy = (
        "Repair it, and run again: nothing is sent twice. Set no other journal in its place: only this one knows"
        " who has got a message."
    )


class MailServerUnavailable(CampaignError):
    """The mail server is away, or takes nothing, for longer than is waited."""

    code = "CMP-151"
    sentence = "The mail server {server} does not accept messages: {reason}."
    remedy = "Run again when it does: {sent} messages of this run were sent, and none is sent twice."


class MailServerRefuses(CampaignError):
    """The mail server refuses the sender, not a message."""

    code = "CMP-152"
    sentence = "The mail server {server} rejects this sender: {reason}."
    remedy = (
        "Check its address, security, user name and password, and the sender's address, and run again:"
        " {sent} messages of this run were sent, and none is sent twice."
    )


class SenderBlamed(CampaignError):
    """A receiving side refuses many different people with the same words: it is the sender who is refused."""

    code = "CMP-158"
    sentence = "{server} refused {people} different people with the same words: {reason}."
    remedy = (
        "Correct what the words say about the sender (its rights, signature, reputation or content), and run again:"
        " these people are deferred, none of them is in quarantine for it; {sent} messages of this run were sent,"
        " and none is sent twice."
    )


class JournalBehind(CampaignError):
    """The journal is not the one that a send began with, or an older copy of it."""

    code = "CMP-159"
    sentence = "The journal {url} {reason}. No message was sent."
    remedy = (
        "Set CAMPAIGN_JOURNAL__URL to the journal that this send began with ({known}), or restore its newest copy:"
        " another one does not know who has got a message. The send's own record is '{record}'."
    )


class MessageFileUnreadable(CampaignError):
    """A file that should go into every message cannot be read."""

    code = "CMP-153"
    sentence = "The {what} '{path}' cannot be used: {reason}."
    remedy = "Correct the email's options; nothing was sent."


class SendNotConfirmed(CampaignError):
    """Nobody confirmed a send that asks for it."""

    code = "CMP-154"
    sentence = "'{label}' was not sent: {reason}."
    remedy = "Run it again to be asked again."


class ProviderRefuses(CampaignError):
    """A provider of SMS, push or in-app messages refuses the sender, not a message."""

    code = "CMP-155"
    sentence = "The provider '{url}' rejects this sender: {reason}."
    remedy = (
        "Check its account and address, and run again: {sent} messages of this run were sent, and none is sent"
        " twice."
    )


class MailboxUnreadable(CampaignError):
    """The mailbox of bounces and complaints cannot be read."""

    code = "CMP-190"
    sentence = "The mailbox {mailbox} cannot be read: {reason}."
    remedy = "Check CAMPAIGN_FEEDBACK__MAILBOX__* and run again: reading continues after what was read."


class FeedbackIncomplete(CampaignError):
    """Some sources of feedback could not be read. The others were, and are written down."""

    code = "CMP-191"
    sentence = "Feedback could not be read from {sources}: {reason}."
    remedy = "What came from the other sources is recorded, and the next run continues from there."


class SendForgotten(CampaignError):
    """A send is so old that the journal has forgotten who got it."""

    code = "CMP-192"
    sentence = (
        "The send of '{campaign}' on {day} over {channel} cannot be sent any more: retention has removed the record"
        " of who got it."
    )
    remedy = "Nothing was sent. Run the campaign for another business date."


class DecisionIncomplete(CampaignError):
    """An operation lacks what it needs: its object, its author or the reason."""

    code = "CMP-193"
    sentence = "'{operation}' needs {missing}."
    remedy = "Fill it in and run again; nothing was changed."


class PoolUnknown(CampaignError):
    """There is no pool of codes of a name."""

    code = "CMP-194"
    sentence = "There is no pool of codes '{pool}', only {present}.{cure}"
    remedy = "Fill it with the activity Code pool, or correct the name."


class PoolDry(CampaignError):
    """A pool has fewer codes than messages need."""

    code = "CMP-195"
    sentence = "The pool '{pool}' has no code for {missing} of {wanted} messages{until}."
    remedy = "Fill it and run again, or choose in the campaign that these are rejected, or get another text."


class ProviderUnavailable(CampaignError):
    """Such a provider is away, or takes nothing, for longer than is waited."""

    code = "CMP-156"
    sentence = "The provider '{url}' does not accept messages: {reason}."
    remedy = "Run again when it does: {sent} messages of this run were sent, and none is sent twice."


class ApiError(CampaignError):
    """The External API activity failed. `retryable` says whether a later attempt may succeed."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed if it is made again."""
        return bool(self.facts.get("retryable", False))

    @property
    def of_partner(self) -> bool:
        """Whether the partner or the way to it failed, not what was asked of it."""
        return isinstance(self, OF_PARTNER)

    @property
    def retry_after(self) -> float | None:
        """Seconds that the partner asked to wait before the next attempt, if it did."""
        seconds = self.facts.get("retry_after")
        return None if seconds is None else float(seconds)


class RequestTooLarge(ApiError):
    """The request body is over the endpoint's limit."""

    code = "WKF-560250"
    sentence = "API request body exceeded limit: {size} bytes for '{url}', {limit} allowed."
    remedy = "Send fewer rows or columns; for data about single profiles use Transfer file and Load file instead."


class ResponseTooLarge(ApiError):
    """The decoded answer is over the endpoint's limit."""

    code = "WKF-560239"
    sentence = "API response exceeded limit: '{url}' answered with more than {limit} bytes."
    remedy = "Ask the partner for less, or raise the endpoint's max_response_bytes."


class TooManyPages(ApiError):
    """The answer has more pages than the endpoint's limit."""

    code = "WKF-560239"
    sentence = "API response exceeded limit: '{url}' has more than {limit} pages."
    remedy = "Ask the partner for larger pages, or raise pagination.max_pages."


class TooManyCalls(ApiError):
    """An endpoint with a call for each key would make more calls than its limit."""

    code = "CMP-184"
    sentence = "'{url}' would be called {count} times; {limit} calls are allowed."
    remedy = "Deduplicate first, send chunks of rows (calls.per: chunk), or raise the endpoint's calls.max_calls."


class UrlUnparsable(ApiError):
    """The endpoint's URL is not a URL."""

    code = "WKF-560245"
    sentence = "API URL could not be parsed: '{url}' {reason}."
    remedy = "Write it as https://host/path."


class UrlNotSecure(ApiError):
    """The endpoint's URL is not https."""

    code = "WKF-560238"
    sentence = "API URL must be a secure URL: '{url}' does not begin with https://."
    remedy = "Use the partner's https address."


class HostNotAllowed(ApiError):
    """The host is localhost, an IP literal, or has an address that is not public."""

    code = "WKF-560244"
    sentence = "API URL host must not be 'localhost', or IP address literal, or a private address: {reason}."
    remedy = "Use the partner's public name; to allow this host, name it in CAMPAIGN_NETWORK__ALLOWED_HOSTS."


class RequestBodyInvalid(ApiError):
    """The rows or parameters cannot be written as JSON."""

    code = "WKF-560249"
    sentence = "Failed to create the request body JSON ({part}): {reason}."
    remedy = "Correct the endpoint's inbound mapping."


class HeaderNameInvalid(ApiError):
    """A request header's name breaks the HTTP grammar."""

    code = "WKF-560246"
    sentence = "HTTP header key is bad: {name!r}."
    remedy = "Use letters, digits and hyphens."


class HeaderNameReserved(ApiError):
    """A request header that the activity sets itself."""

    code = "WKF-560248"
    sentence = "HTTP header key is not allowed: {name!r} is set by the activity itself."
    remedy = "Remove it from the endpoint's headers."


class HeaderValueInvalid(ApiError):
    """A request header's value breaks the HTTP grammar. The value is a secret and is not shown."""

    code = "WKF-560247"
    sentence = "HTTP header value is bad: that of {name!r} has characters that a header cannot carry."
    remedy = "Use visible ASCII without line breaks."


class ResponseShapeInvalid(ApiError):
    """The answer is JSON, but not of the recorded shape."""

    code = "WKF-560240"
    sentence = "JSON payload has bad property: {reason}."
    remedy = "{cure}"

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        cure = "Ask the partner what changed, or correct the endpoint's outbound mapping."
        super().__init__(message, **{"cure": cure, **facts})


class SampleInvalid(ResponseShapeInvalid):
    """A sample from which no mapping can be made."""

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        cure = "Paste an answer as it came, or give the mapping's path, rows_are or flatten."
        super().__init__(message, **{"cure": cure, **facts})


class PagesInvalid(ResponseShapeInvalid):
    """The pages of an answer do not follow each other as the endpoint's pagination says."""

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        cure = "Correct the endpoint's pagination, or ask the partner."
        super().__init__(message, **{"cure": cure, **facts})


class ResponseMalformed(ApiError):
    """The answer is not of its format: no JSON, CSV, XML."""

    code = "WKF-560241"
    sentence = "Malformed JSON or unacceptable format: '{url}' {reason}."
    remedy = "{cure}"

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, **{"cure": "Ask the partner for a JSON answer (RFC 8259, UTF-8).", **facts})


class ProfileLevelCall(ApiError):
    """The mapping would send one row per profile: that is not what a campaign-wide call is for."""

    code = "CMP-180"
    sentence = "'{url}' would be sent data about single profiles: {reason}."
    remedy = (
        "Deduplicate first, or use Transfer file and Load file for such data; in an endpoint of the settings,"
        " inbound.allow_profile_level allows it."
    )


class LimitNotFree(ApiError):
    """A concurrency or rate limit of Prefect gave no place in time, or does not exist."""

    code = "CMP-181"
    sentence = "'{url}' was not called: the Prefect limit '{limit}' {reason}."
    remedy = "Inspect it with `prefect gcl inspect {limit}`; `prefect gcl create` creates one."


class HostPaused(ApiError):
    """A host failed so often lately that no run calls it for a while."""

    code = "CMP-185"
    sentence = (
        "The API '{url}' is not called: its host failed {count} times lately, and is left alone for"
        " {retry_after:.0f} more seconds."
    )
    remedy = (
        "Try later, or ask the partner; to call it at once, delete the Prefect Variable '{variable}'. The settings"
        " are CAMPAIGN_NETWORK__BREAKER__*."
    )


class AccountMissing(ApiError):
    """The external account that the endpoint names is not there."""

    code = "WKF-560280"
    sentence = "The external account '{account}' cannot be found."
    remedy = (
        "Create it in the Prefect UI under Blocks (`prefect block register -m tasks.http.accounts` adds its kinds),"
        " and name it as <kind>/<name>."
    )


class AccountDisabled(ApiError):
    """The external account is disabled."""

    code = "WKF-560281"
    sentence = "The external account '{account}' is disabled."
    remedy = "Enable it in the Prefect UI under Blocks."


class AccountOfWrongKind(ApiError):
    """The block is not an external account."""

    code = "WKF-560282"
    sentence = "Protocol not supported: '{account}' is a {kind}, not an external account."
    remedy = "Name a basic-account, a header-account or an oauth2-account."


class AccountNotForHost(ApiError):
    """The external account does not name the host that its credentials would be sent to."""

    code = "CMP-182"
    sentence = "The external account '{account}' is not for '{host}' (path '{path}'); nothing was sent."
    remedy = "If it is, name the host in the account's hosts, in the Prefect UI under Blocks."


class EndpointNotAllowed(ApiError):
    """An endpoint that is described in parameters does what only the operator may allow."""

    code = "CMP-183"
    sentence = "The endpoint '{name}' is described in parameters and {reason}."
    remedy = "{cure}"


class OAuthSetupInvalid(ApiError):
    """The external account lacks something, or has it wrong."""

    code = "WKF-560278"
    sentence = "Error initializing the OAuth helper: the external account '{provider}' cannot be used: {reason}."
    remedy = "Complete it in the Prefect UI under Blocks."


class TokenNotFetched(ApiError):
    """The authorization server gave no token."""

    code = "WKF-560283"
    sentence = "Failed to fetch the OAuth access token using the external account '{provider}' ({reason})."
    remedy = "Check the account's token URL and scope."


class CredentialsRefused(ApiError):
    """The authorization server does not take the client's ID and secret."""

    code = "CRL-290200"
    sentence = "Incomplete or incorrect credentials: the authorization server refuses those of '{provider}'{said}."
    remedy = "Correct client ID, client secret and scope of the external account."

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, **{"said": "", **facts})


class AuthorizationServerUnreachable(ApiError):
    """No connection to the authorization server, or it broke."""

    code = "CRL-290199"
    sentence = "Cannot reach the authorization server's page '{url}' of '{provider}' ({reason})."
    remedy = "Check the account's token URL and that the server is up."


class RequestFailed(ApiError):
    """The exchange with the partner failed."""

    code = "WKF-560246"


class StatusRefused(RequestFailed):
    """The partner answered with a status other than 2xx."""

    sentence = "The API '{url}' failed (reason: 'HTTP - {status}'{said})."
    remedy = "{cure}"

    def __init__(self, message: str | None = None, /, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, **{"said": "", **facts})

    @property
    def retryable(self) -> bool:
        """202, 5xx, 408, 425, 429, a 4xx with a Retry-After, a 401 for a token that was just fetched may pass."""
        status = int(self.facts["status"])
        asked_to_wait = 400 <= status < 500 and self.retry_after is not None
        may_pass = status == 202 or is_retryable_status(status) or asked_to_wait
        return may_pass or bool(self.facts.get("after_refresh", False))


class ContentTypeRefused(RequestFailed):
    """The answer is not of the content type that was asked for."""

    sentence = "The API '{url}' failed (reason: Content-Type is {content_type!r}, not {wanted})."
    remedy = (
        "Check the address: a login or error page is usually HTML; and the outbound mapping's format. What the"
        " partner calls this format otherwise goes into content_types."
    )


class CertificateInvalid(RequestFailed):
    """The partner's certificate does not verify."""

    sentence = "The API '{url}' failed (reason: its certificate does not verify: {reason})."
    remedy = "Check the address; for a private certificate authority name its file in the endpoint's ca_file."


class PartnerUnreachable(RequestFailed):
    """No connection to the partner, or it broke."""

    sentence = "The API '{url}' failed (reason: {reason})."
    remedy = "Check the address and that the partner is up."


class DeadlineExceeded(RequestFailed):
    """The whole exchange took longer than the endpoint's limit."""

    sentence = "The API '{url}' failed (reason: no complete answer within {seconds:g} seconds)."
    remedy = "Ask the partner, or raise the endpoint's timeout_seconds."


OF_PARTNER = (
    RequestFailed,
    ResponseTooLarge,
    TooManyPages,
    ResponseMalformed,
    ResponseShapeInvalid,
    TokenNotFetched,
    AuthorizationServerUnreachable,
    LimitNotFree,
    HostPaused,
)
"""Failures for which a last good answer may stand in."""


def kinds_below(kind: type[CampaignError]) -> Iterator[type[CampaignError]]:
    """The classes of this module that are below one in the tree, each before those below it."""
    for child in kind.__subclasses__():
        if child.__module__ == __name__:
            yield child
            yield from kinds_below(child)
