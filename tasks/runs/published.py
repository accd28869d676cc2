"""What a run shows of itself in the Prefect UI, in the words of those who run campaigns.

Who got the message, who did not and why, and where the files are that name them; then the counts of every step, the
reasons, and a few messages.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.privacy import masked, masked_email
from tasks.runs.artifacts import as_text, messages_shown, show_markdown, show_table
from tasks.send import Send

PREVIEWED = 3
PUT_OFF = ("not taken yet", "not yet: ", "another run has it")
"""How reasons begin that a later run of the same send may end."""


def publish(send: Send, counts: pl.DataFrame, rejects: pl.DataFrame, messages: pl.DataFrame) -> None:
    """Make the artifacts `<campaign>-counts`, `-rejects` and `-preview`.

    In: activity, transition, rows; reason, profiles; email, subject, html, text.
    """
    day = send.business_date
    told = counts.select("activity", "transition", "rows")
    show_table(told, key=f"{send.campaign}-counts", description=f"How many each step of the campaign had, {day}")
    show_table(
        rejects, key=f"{send.campaign}-rejects", description=f"Who was left out or put off, by reason, {day}"
    )
    show_markdown(
        message_preview(messages),
        key=f"{send.campaign}-preview",
        description=f"The first messages that were delivered, {day}",
    )


def show_outcome(
    send: Send, channel: str, counts: Mapping[str, int], rejects: pl.LazyFrame, files: Mapping[str, Path]
) -> None:
    """Make the artifact `<campaign>-outcome`: who got the message, who did not and why, with the files' names.

    In: people by what became of them, in words; everyone who got none; files, by what they tell.
    """
    show_markdown(
        outcome_told(send, channel, counts, reject_reasons(rejects), files),
        key=f"{send.campaign}-outcome",
        description=f"Who got {send.label} by {channel}, and who did not, {send.business_date}",
    )


def outcome_told(
    send: Send, channel: str, counts: Mapping[str, int], reasons: pl.DataFrame, files: Mapping[str, Path]
) -> str:
    """Markdown of a send's outcome: how many by what became of them, the files, the reasons."""
    put_off = pl.any_horizontal(pl.col("reason").str.starts_with(begins) for begins in PUT_OFF)
    later, out = reasons.filter(put_off), reasons.filter(~put_off)
    people = {
        **counts,
        "were put off: another run of the day may reach them": later["profiles"].sum(),
        "were left out": out["profiles"].sum(),
    }
    rows = [f"| {what} | {count:,} |" for what, count in people.items() if count or what == "were left out"]
    places = [f"- {what}: [{_named(file)}]({file.resolve().as_uri()})" for what, file in files.items()]
    parts = [
        f"## {as_text(send.label)}, {send.business_date}",
        "\n".join([f"| by {as_text(channel)} | people |", "| --- | ---: |", *rows]),
        "\n".join(places),
    ]
    for title, table in (("Why people were left out", out), ("Why people were put off", later)):
        if table.height:
            told = [f"| {as_text(reason)} | {count:,} |" for reason, count in table.iter_rows()]
            parts.append("\n".join([f"### {title}", "", "| reason | people |", "| --- | ---: |", *told]))
    return "\n\n".join(parts)


def _named(file: Path) -> str:
    """A file's place as the text of a link, which the Prefect UI shows as it stands."""
    return str(file.resolve()).translate(str.maketrans("[]`<>\\", "______"))


def reject_reasons(rejects: pl.LazyFrame) -> pl.DataFrame:
    """Rejects by reason, the most frequent first: reason, profiles. A reason that quotes a profile is masked."""
    counted = rejects.group_by("reason").agg(profiles=pl.len().cast(pl.Int64())).collect(engine="streaming")
    shown = counted.with_columns(pl.col("reason").map_elements(masked, return_dtype=pl.String()))
    told = shown.group_by("reason").agg(pl.col("profiles").sum())
    return told.sort("profiles", "reason", descending=[True, False])


def message_preview(messages: pl.DataFrame) -> str:
    """Markdown of the first messages, addresses masked; no more of their HTML than is harmless."""
    shown = messages.head(PREVIEWED)
    addresses = shown["email"].to_list()
    masks = shown.select(masked_email("email").fill_null("nobody"))["email"].to_list()
    told = [
        (subject, mask, *(part.replace(address, mask) if address else part for part in (html, text)))
        for (subject, html, text), address, mask in zip(
            shown.select("subject", "html", "text").iter_rows(), addresses, masks, strict=True
        )
    ]
    return messages_shown(told)
