"""The page of a backtest: one HTML file that needs nothing else, to read, to send and to keep.

Refuses to know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from daemon.backtest.plots import delay_plot, evidence_plot, roc_plot
from streams.backtest.report import Detection, EffectReport, Report
from streams.backtest.trial import BEFORE_ONSET
from streams.judging.budget import describe_budget

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1d2733; background: #f4f5f7; margin: 0; }
main { max-width: 1060px; margin: 0 auto; padding: 24px 32px 48px; background: #fff; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 6px; }
p { margin: 6px 0; max-width: 900px; }
.source { color: #5b6673; }
.verdict { font-size: 19px; padding: 14px 18px; border-left: 8px solid; margin: 18px 0; }
.good { border-color: #009e73; background: #eaf6f1; }
.bad { border-color: #d55e00; background: #fcefe6; }
table { border-collapse: collapse; width: 100%; margin: 10px 0; font-size: 15px; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid #dde1e6; vertical-align: top; }
td:not(:first-child):not(:last-child) { white-space: nowrap; }
th { font-weight: 600; border-bottom-width: 2px; }
code { font-family: "DejaVu Sans Mono", monospace; font-size: 14px; }
figure { margin: 12px 0; }
figure svg { width: 100%; height: auto; }
tr.chosen td { background: #eef3f8; }
@media print { body { background: #fff; } main { padding: 0; } h2 { break-after: avoid; } }
"""


def backtest_page(report: Report) -> str:
    """Return the page (HTML, UTF-8)."""
    title = f"Backtest of {report.model}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="source">{escape(_sentence(report.source))}</p>',
        f'<p class="verdict {"good" if report.passed else "bad"}">{escape(report.headline)}</p>',
        *_alarms(report),
        *(_effects(report) if report.effects else ()),
        *_coverage(report),
        *_made(report),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _alarms(report: Report) -> Iterable[str]:
    kind = "Alarms" if report.recorded else "False alarms"
    yield f"<h2>{kind}</h2>"
    yield (
        "<p>Counted from alarm to recovery. The same lumisections are judged under every budget; the "
        "interval is that of a Poisson mean (95 %). The budget in use is marked.</p>"
    )
    if report.recorded:
        yield "<p>These windows were recorded: an alarm is a false one only where nothing was wrong.</p>"
    rows = [
        (
            describe_budget(one.budget),
            f"{one.episodes} in {one.lumisections} LS",
            f"{one.per_1000:.2f} ({one.interval[0]:.2f} to {one.interval[1]:.2f})",
            f"{one.alarmed} LS",
            f"{one.warnings} ({one.warned} LS)",
        )
        for one in sorted(report.false_alarms, key=lambda one: -one.budget)
    ]
    head = ("budget", kind.lower(), "per 1000 LS", "in alarm", "warnings")
    yield _table(head, rows, chosen=describe_budget(report.budgets[0]))
    if report.alarms:
        what = [(f"{one.run}", f"{one.lumisection}", one.reason) for one in report.alarms]
        yield _table(("run", "LS", "what was said"), what)


def _effects(report: Report) -> Iterable[str]:
    yield "<h2>What is found, and how soon</h2>"
    first = report.effects[0]
    repetitions = first.detections[0].repetitions + first.detections[0].spoiled
    yield (
        f"<p>Each effect {repetitions} times, in fills of its own, after {BEFORE_ONSET} good lumisections, "
        f"with {first.horizon} bad ones to find it in, under {escape(describe_budget(report.budgets[0]))}. "
        "A delay of 1 is the first bad lumisection; a dash: not in so many of the repetitions.</p>"
    )
    yield _table(
        ("effect", "found", "95 %", "median delay", "90 % within", "channels that said it"),
        [_effect_row(one) for one in report.effects],
        code=True,
    )
    yield f"<figure>{delay_plot(report)}</figure>"
    yield "<h2>Choosing a budget</h2>"
    yield (
        "<p>The same lumisections under several budgets: how much is found, and what it costs. Points of "
        "several effects are moved apart a little; the dotted line is the budget in use. An alarm needs "
        "evidence that holds however the channels depend on each other, so there are usually fewer false "
        "alarms than allowed.</p>"
    )
    yield f"<figure>{roc_plot(report)}</figure>"
    order = sorted(range(len(report.budgets)), key=lambda index: -report.budgets[index])
    head = ("effect: found, median delay", *(f"1 per {1 / report.budgets[i]:.0f} LS" for i in order))
    yield _table(
        head,
        [(one.effect, *(_short(one.detections[index]) for index in order)) for one in report.effects],
        code=True,
    )
    yield "<h2>Evidence over time</h2>"
    yield (
        "<p>The first repetition of each effect, until every budget had its alarm. The dashed line is the "
        "level of an alarm under the budget in use; at 1 above it stands that of a tenth of the budget.</p>"
    )
    yield f"<figure>{evidence_plot(report)}</figure>"


def _coverage(report: Report) -> Iterable[str]:
    covered = report.coverage
    yield "<h2>Coverage</h2>"
    yield (
        f"<p>{covered.lumisections} lumisections: {covered.judged} judged, {covered.insufficient} with too "
        f"few events, {covered.not_judged} not judged.</p>"
    )
    if covered.reasons:
        rows = [(reason, f"{number}") for reason, number in covered.reasons]
        yield _table(("reason (its numbers are those of the first)", "lumisections"), rows)
    unjudged = [(one.effect, f"{one.unjudged}") for one in report.effects if one.unjudged]
    if unjudged:
        yield _table(("effect", "bad lumisections that were not judged"), unjudged, code=True)


def _made(report: Report) -> Iterable[str]:
    yield "<h2>How this was made</h2>"
    facts = [
        ("lumisections", report.source),
        ("reference", f"{report.reference_id} ({report.built_from})"),
        ("contract", report.contract_hash),
        ("package", report.package),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    if report.seed is not None:
        facts.insert(1, ("seed, events per lumisection", f"{report.seed}, {report.n_events}"))
    yield _table(("what", "value"), facts)
    if not report.recorded:
        yield (
            "<p>Made lumisections are no measurement: they show what the judgement does with data of this "
            "contract, and are as good as what they were made from.</p>"
        )


def _effect_row(one: EffectReport) -> tuple[str, ...]:
    found = one.detections[0]
    low, high = found.interval
    spoiled = f" ({found.spoiled} left out: in alarm before)" if found.spoiled else ""
    channels = ", ".join(f"{name} ({number})" for name, number in found.channels[:4])
    return (
        one.effect,
        f"{found.detected} of {found.repetitions}{spoiled}",
        f"{low:.0%} to {high:.0%}",
        _delay(found.median_delay),
        _delay(found.late_delay),
        channels or "-",
    )


def _short(one: Detection) -> str:
    return f"{one.probability:.0%}, {_delay(one.median_delay)}"


def _delay(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} LS"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, chosen: str | None = None, code: bool = False
) -> str:
    """Return a table; rows that begin with `chosen` are marked, and the first column may be code."""
    lines = ["<table><thead><tr>", *(f"<th>{escape(cell)}</th>" for cell in head), "</tr></thead><tbody>"]
    for first, *rest in rows:
        mark = ' class="chosen"' if first == chosen else ""
        cell = f"<code>{escape(first)}</code>" if code else escape(first)
        lines.append(
            f"<tr{mark}><td>{cell}</td>" + "".join(f"<td>{escape(one)}</td>" for one in rest) + "</tr>"
        )
    return "".join([*lines, "</tbody></table>"])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
