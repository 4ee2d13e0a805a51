"""The table as a picture: a bar per client and row, SVG that needs no fonts of ours."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.peers import NAMES
from benchmarks.report import Result, Row
from benchmarks.scenarios import OURS

_WIDTH = 860
_LEFT, _RIGHT = 130, 150
_BAR, _GAP, _TITLE = 15, 4, 30

_STYLE = """
  text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a }
  .title { font-size: 13px; font-weight: 600; fill: #1f2328 }
  .ours { fill: #1f2328; font-weight: 600 }
  rect { fill: #c5ced8 }
  rect.ours { fill: #1a7f5a }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title, text.ours { fill: #f0f6fc } rect { fill: #3d444d }
    rect.ours { fill: #2ea67a }
  }
"""


def draw(rows: Sequence[Row]) -> str:
    """Return an SVG with the rows in which peers take part, shortest time first."""
    shown = [row for row in rows if _has_peers(row) and row.ours.runs]
    pieces: list[str] = []
    top = 8
    for row in shown:
        pieces.append(f'<text class="title" x="8" y="{top + 18}">{escape(row.title)}</text>')
        top += _TITLE
        results = sorted((r for r in row.results if r.runs), key=lambda r: r.seconds)
        longest = results[-1].seconds
        for result in results:
            pieces.extend(_bar(result, top, longest))
            top += _BAR + _GAP
        top += 10
    body = "\n".join(pieces)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" role="img" aria-label="Benchmark results">\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _has_peers(row: Row) -> bool:
    return any(result.name in NAMES and result.runs for result in row.results)


def _bar(result: Result, top: int, longest: float) -> list[str]:
    kind = ' class="ours"' if result.name == OURS else ""
    length = max(1.0, (_WIDTH - _LEFT - _RIGHT) * result.seconds / longest)
    middle = top + _BAR - 3
    memory = f"{result.peak >> 20} MiB"
    label = f"{_seconds(result.seconds)} · {memory}"
    return [
        f'<text{kind} x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(result.name)}</text>',
        f'<rect{kind} x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
        f'<text{kind} x="{_LEFT + length + 6:.1f}" y="{middle}">{label}</text>',
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
