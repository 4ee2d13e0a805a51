"""The look of help: sections of aligned pairs, for the root help and for every command's.

`Manual` collects lines and needs only the standard library; `Formatter` lets cyclopts fill
one for a command.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datacachalog.cli.console import Stream

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

_WIDEST = 100
_LONGEST_TERM = 26


def _wrap(text: str, width: int) -> list[str]:
    # Every command loads this module, and few of them show help.
    import textwrap

    return textwrap.wrap(text, width)


class Manual:
    """Lines of help for one stream, wrapped to its width (at most 100 cells)."""

    def __init__(self, stream: Stream, longest_term: int = 0) -> None:
        self.lines: list[str] = []
        self._stream = stream
        self._longest_term = longest_term
        self._width = min(stream.width or _WIDEST, _WIDEST)

    def usage(self, text: str) -> None:
        """Add the usage line."""
        self.lines += [f"{self._stream.paint('Usage:', 'bold')} {text}", ""]

    def text(self, text: str) -> None:
        """Add paragraphs; lines that are indented stay as they are."""
        for paragraph in text.split("\n\n"):
            if paragraph.startswith(" "):
                self.lines += [*paragraph.splitlines(), ""]
            else:
                self.lines += [*_wrap(paragraph, self._width), ""]

    def section(self, title: str, entries: Sequence[tuple[str, ...]]) -> None:
        """Add a titled list of terms with explanations; a third item is an `env` twin."""
        self.lines.append(self._stream.paint(f"{title}:", "bold"))
        longest = self._longest_term or max(len(term) for term, *_ in entries)
        column = 2 + min(_LONGEST_TERM, longest) + 2
        for term, explanation, *env in entries:
            # No-break spaces keep a twin together when lines are wrapped.
            twins = "".join(f" [env:\xa0{name}]" for name in env)
            self._entry(term, explanation + twins, column)
        self.lines.append("")

    def _entry(self, term: str, explanation: str, column: int) -> None:
        indent = " " * column
        wrapped = _wrap(explanation, max(20, self._width - column)) or [""]
        wrapped = [line.replace("\xa0", " ") for line in wrapped]
        head = f"  {self._stream.paint(term, 'cyan')}"
        if len(term) + 4 > column:
            self.lines.append(head)
        else:
            head += " " * (column - 2 - len(term))
            self.lines.append((head + wrapped.pop(0)).rstrip())
        self.lines += [indent + line for line in wrapped if line]


class Formatter:
    """What cyclopts calls to show a command's help, part by part (its HelpFormatter)."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    # The protocol names its parameters, `options` among them.
    # ruff: noqa: ARG002

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Show the usage line."""
        manual = Manual(self._stream)
        manual.usage(_plain(usage, console).removeprefix("Usage:").strip())
        self._show(manual)

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: Any
    ) -> None:
        """Show the command's docstring."""
        manual = Manual(self._stream)
        if text := _plain(description, console):
            manual.text(text)
        self._show(manual)

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Show one group of arguments, options or commands."""
        if panel.entries:
            manual = Manual(self._stream)
            title = _plain(panel.title, console)
            manual.section(title, [self._pair(entry, console) for entry in panel.entries])
            self._show(manual)

    def _pair(self, entry: "HelpEntry", console: "Console") -> tuple[str, ...]:
        labels = ", ".join(entry.display_labels_with_metavar)
        explanation = _plain(entry.description, console)
        if entry.default is not None:
            explanation += f" [default: {entry.default}]"
        return (labels, explanation, *(entry.env_var or ()))

    def _show(self, manual: Manual) -> None:
        for line in manual.lines:
            self._stream.line(line)


def _plain(renderable: Any, console: "Console") -> str:
    """Return the text of a string or a rich renderable, unwrapped."""
    if renderable is None:
        return ""
    if isinstance(renderable, str):
        return renderable.strip()
    segments = console.render(renderable, console.options.update(width=10_000, no_wrap=True))
    return "\n".join(
        line.rstrip() for line in "".join(s.text for s in segments).split("\n")
    ).strip()
