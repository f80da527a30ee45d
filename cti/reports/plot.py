"""A report as a picture: SVG of our own for pages and mails, bars of characters for terminals.

No library: a stacked bar and a line are two dozen shapes, and every plotting library is larger than this server.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from attrs import frozen

from cti.reports.report import Kind, Report, ReportRow

#: Bars beyond these are too narrow to be seen.
MOST_BARS: Final = 400
_WIDTH, _HEIGHT = 960.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 56.0, 56.0, 88.0
_MOST_LABELS: Final = 24
_STEPS: Final = 4
_LINE: Final = "#1f4e99"
_TERMINAL: Final = 48


@frozen
class _Part:
    """One colour of a bar: what it shows, and the character for it where there are no colours."""

    title: str
    colour: str
    character: str
    names: tuple[str, ...]

    def of(self, row: ReportRow) -> float:
        return sum(row.figures.get(name) or 0 for name in self.names)


@frozen
class _Picture:
    """`unit`: what the bars count; figures divided by `divisor` are in it. `line`: a share."""

    unit: str
    divisor: float
    parts: tuple[_Part, ...]
    line: str


_TIMES: Final = _Picture(
    "hours",
    3600.0,
    (
        _Part("Busy", "#2a7f4f", "#", ("busy_time",)),
        _Part("Being offered", "#56b4e9", "o", ("offered_time",)),
        _Part("In wrap-up", "#e69f00", "w", ("wrap_up_time",)),
        _Part("Ready", "#b8d8c4", ".", ("ready_time",)),
        _Part("Paused", "#8c8c8c", "-", ("paused_time",)),
    ),
    "occupancy",
)
_PICTURES: Final[Mapping[Kind, _Picture]] = {
    Kind.CALLS: _Picture(
        "calls",
        1.0,
        (
            _Part("Answered", "#2a7f4f", "#", ("answered",)),
            _Part("Missed", "#c0392b", "!", ("missed",)),
            _Part("Abandoned", "#e69f00", "?", ("abandoned",)),
            _Part(
                "Other",
                "#8c8c8c",
                ".",
                ("voicemail", "self_service", "rejected", "busy", "failed", "fallback", "open"),
            ),
        ),
        "service_level",
    ),
    Kind.AGENTS: _TIMES,
    Kind.TEAM: _TIMES,
}


class TooManyBars(ValueError):
    """More rows than a picture shows; the text says what would be right."""


def svg(report: Report) -> str:
    """The report as an SVG document. Raises `TooManyBars`."""
    return "".join(_drawn(report, _PICTURES[report.question.kind], _bars(report)))


def terminal_bars(report: Report) -> list[tuple[str, str]]:
    """A name and a bar for each row; the last ones say what the characters mean. Raises `TooManyBars`."""
    picture = _PICTURES[report.question.kind]
    rows = _bars(report)
    highest = _highest(picture, rows)
    bars = []
    for row in rows:
        bar, reached, before = "", 0.0, 0
        for part in picture.parts:
            reached += part.of(row) / picture.divisor
            cells = round(reached / highest * _TERMINAL)
            bar += part.character * (cells - before)
            before = cells
        share = row.figures.get(picture.line)
        bars.append(
            (_name(row), f"{bar:<{_TERMINAL}} {reached:g}" + ("" if share is None else f" {share:.0%}"))
        )
    meaning = ", ".join(f"{part.character} {part.title.lower()}" for part in picture.parts)
    return [*bars, ("", f"{meaning}; {picture.unit}, and {picture.line.replace('_', ' ')}")]


def _bars(report: Report) -> Sequence[ReportRow]:
    if len(report.rows) > MOST_BARS:
        raise TooManyBars(
            f"a picture shows {MOST_BARS} bars, this would be {len(report.rows)};"
            " a shorter time, `by` day, or all services together would be right"
        )
    return report.rows


def _highest(picture: _Picture, rows: Sequence[ReportRow]) -> float:
    return (
        max((sum(part.of(row) for part in picture.parts) for row in rows), default=0) / picture.divisor or 1.0
    )


def _name(row: ReportRow) -> str:
    return row.label if row.of is None else f"{row.label} {row.of or '-'}"


def _short(row: ReportRow) -> str:
    """Of an hour without seconds and offset, which the bar itself tells."""
    return _name(row) if row.of is not None or "T" not in row.label else row.label[:16].replace("T", " ")


def _drawn(report: Report, picture: _Picture, rows: Sequence[ReportRow]) -> Iterator[str]:
    title = f"{report.question.kind.capitalize()}, {report.question.zone.key}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img"'
        f' font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH:g}" height="{_HEIGHT:g}" fill="#fff"/>'
    )
    yield from _legend(picture)
    top = _round_up(_highest(picture, rows))
    height = _HEIGHT - _TOP - _BOTTOM
    for step in range(_STEPS + 1):
        y = _HEIGHT - _BOTTOM - height * step / _STEPS
        yield f'<path d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}" stroke="#ddd"/>'
        yield _text(_LEFT - 8, y + 4, f"{top * step / _STEPS:g}", "end")
        yield _text(_WIDTH - _RIGHT + 8, y + 4, f"{step * 100 // _STEPS} %", "start", _LINE)
    width = (_WIDTH - _LEFT - _RIGHT) / max(1, len(rows))
    points = []
    for place, row in enumerate(rows):
        x, y = _LEFT + width * place, _HEIGHT - _BOTTOM
        for part in picture.parts:
            tall = part.of(row) / picture.divisor / top * height
            if tall > 0:
                y -= tall
                yield (
                    f'<rect x="{x + width * 0.1:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" height="{tall:.1f}"'
                    f' fill="{part.colour}"><title>{escape(_name(row))}: {escape(part.title)}'
                    f" {part.of(row) / picture.divisor:g}</title></rect>"
                )
        share = row.figures.get(picture.line)
        if share is not None:
            points.append((x + width / 2, _HEIGHT - _BOTTOM - height * min(1.0, share)))
        if place % (len(rows) // _MOST_LABELS + 1) == 0:
            yield _text(x + width / 2, _HEIGHT - _BOTTOM + 12, _short(row), "end", turned=True)
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_LINE}"/>'
    if report.of is None:
        # Between services or agents there is nothing that a line could lead through.
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>'
    yield "</svg>\n"


def _legend(picture: _Picture) -> Iterator[str]:
    x = _LEFT
    for part in picture.parts:
        yield f'<rect x="{x:g}" y="20" width="12" height="12" fill="{part.colour}"/>'
        yield _text(x + 18, 30, part.title, "start")
        x += 40 + 7 * len(part.title)
    line = picture.line.replace("_", " ")
    yield f'<circle cx="{x + 6:g}" cy="26" r="4" fill="{_LINE}"/>' + _text(x + 18, 30, line, "start", _LINE)
    yield _text(_LEFT - 8, _TOP - 12, picture.unit, "end")


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333", *, turned: bool = False) -> str:
    turn = f' transform="rotate(-35 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{turn}>{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next number that quarters well: 4, 8, 20, 40, 80, …"""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    while scale > value:
        scale /= 10
    return next(each * scale for each in (1, 2, 4, 8, 10) if each * scale >= value)
