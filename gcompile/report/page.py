"""Pages of HTML: no scripts, nothing fetched, every text escaped.

Names of models and layers come from files of strangers, so they reach a page through `escape`
only. The content policy forbids scripts and requests even if one slipped through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as escape_html

from gcompile.report.quantity import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --bar: #2a78c5; --line: #8886; --faint: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 2rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
tr.idle { opacity: .65; }
svg { display: block; height: .9em; width: 10rem; }
svg .track { fill: var(--faint); }
svg .part { fill: var(--bar); }
svg.chart { height: auto; width: 100%; }
svg.chart polyline { fill: none; stroke: var(--bar); stroke-width: 1.5; }
svg.chart .track { fill: none; stroke: var(--line); }
svg.chart text { fill: currentColor; font-size: 12px; }
.ok { color: #1a7f37; } .budget_not_met, .accuracy_not_met { color: #b35900; }
"""


def page(title: str, body: str) -> str:
    """A whole page around a body of HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """Text that a browser shows as it is, in content and in attributes."""
    return escape_html(printable(text), quote=True)


def table(columns: Sequence[str], rows: Iterable[str]) -> str:
    """A table of rows that are HTML already; columns are texts."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
