"""Messages as text: Markdown for a chat, aligned columns for a terminal.

Text that comes from outside (beam mode, input names, comments) cannot mention people, break a table, link or
open a code block. Refuses to know where a message goes.
"""

from collections.abc import Sequence

from daemon.alerts.message import (
    AlertMessage,
    Proposal,
    Stage,
    approve_command,
    prescale_command,
)

MARKDOWN_LIMIT = 16383
"""Longest message a Mattermost server accepts, in characters."""

_MAX_ROWS = 12

_SYMBOLS = {
    Stage.WARNING: ":warning:",
    Stage.ALARM: ":rotating_light:",
    Stage.ACKNOWLEDGED: ":eyes:",
    Stage.PROPOSED: ":bulb:",
    Stage.APPROVED: ":white_check_mark:",
    Stage.REJECTED: ":no_entry_sign:",
    Stage.PRESCALED_OUT: ":no_entry:",
    Stage.PROGRESS: ":hourglass_flowing_sand:",
    Stage.RECONFIGURED: ":arrows_counterclockwise:",
    Stage.ROLLED_BACK: ":leftwards_arrow_with_hook:",
    Stage.FAILED: ":x:",
    Stage.RESOLVED: ":heavy_check_mark:",
}

CONDITION_HEADINGS = ("run", "LS", "luminosity", "pileup", "beam mode", "prescale column")
COMPARISON_HEADINGS = ("input or path", "actual", "expected", "deviation")


def render_markdown(message: AlertMessage) -> str:
    """Write a message as Mattermost Markdown, never longer than `MARKDOWN_LIMIT` characters."""
    lines = [f"#### {_SYMBOLS[message.stage]} {escape(message.title)}", escape(message.reason)]
    if message.story:
        lines.append(f"**Likely:** {escape(message.story)}")
    facts = _facts(message)
    if facts:
        lines.append(" ".join(f"**{name}:** {escape(value)}." for name, value in facts))
    if message.conditions is not None:
        lines += ["", *markdown_table(CONDITION_HEADINGS, [message.conditions.cells()])]
    if message.comparisons:
        rows = [row.cells() for row in message.comparisons[:_MAX_ROWS]]
        lines += ["", *markdown_table(COMPARISON_HEADINGS, rows)]
    if message.details:
        lines += ["", *(f"- {escape(detail)}" for detail in message.details)]
    if message.proposal is not None:
        lines += ["", *_markdown_proposal(message.proposal, message.console_url)]
    elif message.console_url is not None:
        lines += ["", f"[Open in the console]({message.console_url})"]
    return bounded("\n".join(lines))


def render_text(message: AlertMessage) -> str:
    """Write a message for a terminal or a log: the same content as the Markdown, with aligned columns."""
    lines = [_line(message.title), _line(message.reason)]
    if message.story:
        lines.append(f"Likely: {_line(message.story)}")
    lines += [f"{name}: {_line(value)}" for name, value in _facts(message)]
    if message.conditions is not None:
        lines += ["", *_text_table(CONDITION_HEADINGS, [message.conditions.cells()])]
    if message.comparisons:
        rows = [row.cells() for row in message.comparisons[:_MAX_ROWS]]
        lines += ["", *_text_table(COMPARISON_HEADINGS, rows)]
    if message.details:
        lines += ["", *(f"- {_line(detail)}" for detail in message.details)]
    lines += ["", *_text_answer(message)] if (message.proposal or message.console_url) else []
    return "\n".join(lines)


def _facts(message: AlertMessage) -> list[tuple[str, str]]:
    facts = []
    if message.onset_lumisection is not None:
        facts.append(("Onset", f"LS {message.onset_lumisection}"))
    if message.exceeded:
        facts.append(("Exceeded", ", ".join(message.exceeded)))
    facts.append(("Incident", message.incident_id))
    if message.site:
        facts.append(("Site", message.site))
    return facts


def _markdown_proposal(proposal: Proposal, console_url: str | None) -> list[str]:
    where = f"[in the console]({console_url}) or with " if console_url else "with "
    lines = [f"**Proposal:** {escape(proposal.summary)}"]
    if proposal.strategies:
        lines.append(f"**Strategies, least invasive first:** {escape(', '.join(proposal.strategies))}")
    lines.append(f"**Approve** {where}`{approve_command(proposal.response_id)}`")
    lines.append(f"**Alternative:** prescale out, `{prescale_command(proposal.response_id)}`")
    if proposal.approvers:
        lines.append(f"**May decide:** {escape(', '.join(proposal.approvers))}")
    return lines


def _text_answer(message: AlertMessage) -> list[str]:
    lines = []
    if message.proposal is not None:
        lines.append(f"Proposal: {_line(message.proposal.summary)}")
        if message.proposal.strategies:
            lines.append(f"Strategies, least invasive first: {_line(', '.join(message.proposal.strategies))}")
        lines.append(f"Approve: {approve_command(message.proposal.response_id)}")
        lines.append(f"Alternative: prescale out, {prescale_command(message.proposal.response_id)}")
        if message.proposal.approvers:
            lines.append(f"May decide: {_line(', '.join(message.proposal.approvers))}")
    if message.console_url is not None:
        lines.append(f"Console: {message.console_url}")
    return lines


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table, line by line; cells may come from outside."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]


def _text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [tuple(headings), *(tuple(_line(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escape(text: str) -> str:
    """Write text from outside as one line of plain Markdown: no mentions, table breaks, links or code."""
    escaped = _line(text)
    for character in "\\`*_[]<>#~|":
        escaped = escaped.replace(character, "\\" + character)
    return escaped.replace("@", "@\u200b")


def bounded(markdown: str) -> str:
    """Cut Markdown at a line so that a Mattermost server takes it."""
    if len(markdown) <= MARKDOWN_LIMIT:
        return markdown
    ending = "\n(shortened: the whole message is in the console)"
    kept = markdown[: MARKDOWN_LIMIT - len(ending)]
    return kept[: kept.rfind("\n")] + ending
