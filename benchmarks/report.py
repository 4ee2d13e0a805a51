"""What came out: ratios, verdicts, and the table as text and JSON."""

import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.measuring import Sample
from benchmarks.scenarios import OURS, AtMost, CpuAtMost, Goal, Memory, Within

BEST = "the best peer"


@dataclass(slots=True)
class Result:
    """One client's runs in one contest: a sample for each round, None where it did not run."""

    name: str
    samples: list[Sample | None] = field(default_factory=list)
    failure: str = ""

    @property
    def runs(self) -> list[Sample]:
        """Return the samples there are."""
        return [sample for sample in self.samples if sample is not None]

    @property
    def seconds(self) -> float:
        """Return the median wall time."""
        return median(sample.seconds for sample in self.runs)

    @property
    def least(self) -> float:
        """Return the shortest wall time."""
        return min(sample.seconds for sample in self.runs)

    @property
    def cpu(self) -> float:
        """Return the median of the CPU seconds of all threads."""
        return median(sample.cpu for sample in self.runs)

    @property
    def peak(self) -> int:
        """Return the largest peak memory of any run."""
        return max(sample.peak for sample in self.runs)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, what was reached, and whether that is enough; None where it cannot be told."""

    goal: str
    reached: str
    is_met: bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """One contest's results, ours first."""

    scenario: str
    title: str
    results: Sequence[Result]
    goals: Sequence[Goal]

    @property
    def ours(self) -> Result:
        """Return our own result."""
        return next(result for result in self.results if result.name == OURS)

    @property
    def best(self) -> Result | None:
        """Return the fastest other client."""
        others = [r for r in self.results if r is not self.ours and r.runs]
        return min(others, key=lambda result: result.seconds, default=None)

    def verdicts(self) -> list[Verdict]:
        """Compare ours with each goal."""
        return [self._verdict(goal) for goal in self.goals]

    def _verdict(self, goal: Goal) -> Verdict:
        match goal:
            case AtMost(other, factor):
                text = f"≤ {factor:g} × {other}"  # noqa: RUF001 - a multiplication
                return self._compared(text, other, factor, _seconds)
            case CpuAtMost(other, factor):
                text = f"CPU ≤ {factor:g} × {other}"  # noqa: RUF001 - a multiplication
                return self._compared(text, other, factor, _cpu)
            case Within(seconds):
                text = f"≤ {_time(seconds)}"
                if not self.ours.runs:
                    return Verdict(text, "", None)
                return Verdict(text, _time(self.ours.seconds), self.ours.seconds <= seconds)
            case Memory(size):
                text = f"≤ {size >> 20} MiB"
                if not self.ours.runs:
                    return Verdict(text, "", None)
                return Verdict(text, f"{self.ours.peak >> 20} MiB", self.ours.peak <= size)

    def _compared(
        self, text: str, other: str, factor: float, of: Callable[[Sample], float]
    ) -> Verdict:
        found = self.best if other == BEST else self._find(other)
        if found is None or not found.runs or not self.ours.runs:
            return Verdict(text, "", None)
        reached = ratio(self.ours, found, of)
        return Verdict(text, f"{reached:.2f}", reached <= factor)

    def _find(self, name: str) -> Result | None:
        return next((result for result in self.results if result.name == name), None)


def _seconds(sample: Sample) -> float:
    return sample.seconds


def _cpu(sample: Sample) -> float:
    return sample.cpu


def ratio(one: Result, other: Result, of: Callable[[Sample], float] = _seconds) -> float:
    """Return the median of the ratios of each round: what drifts, drifts for both."""
    pairs = zip(one.samples, other.samples, strict=False)
    return median(of(a) / of(b) for a, b in pairs if a is not None and b is not None)


def text(rows: Iterable[Row], notes: Sequence[str]) -> str:
    """Return the table as text."""
    lines = [*notes, ""]
    for row in rows:
        lines.append(f"{row.title}  [{row.scenario}]")
        lines.append(
            f"  {'':<16}{'median':>11}{'min':>11}{'ratio':>8}{'CPU':>9}{'peak':>10}{'runs':>6}"
        )
        lines.extend(_line(row, result) for result in row.results)
        for verdict in row.verdicts():
            word = {True: "met", False: "MISSED", None: "not measured"}[verdict.is_met]
            reached = f": {verdict.reached}" if verdict.reached else ""
            lines.append(f"  goal {verdict.goal}{reached}, {word}")
        lines.append("")
    return "\n".join(lines)


def _line(row: Row, result: Result) -> str:
    if not result.runs:
        return f"  {result.name:<16}  {result.failure}"
    against = "" if result is row.ours or not row.ours.runs else f"{ratio(row.ours, result):.2f}"
    note = f"  {result.failure}" if result.failure else ""
    return (
        f"  {result.name:<16}{_time(result.seconds):>11}{_time(result.least):>11}{against:>8}"
        f"{result.cpu:>7.2f} s{result.peak >> 20:>6} MiB{len(result.runs):>6}{note}"
    )


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def document(rows: Iterable[Row], notes: Sequence[str], versions: Mapping[str, str]) -> str:
    """Return the same as JSON, with every sample."""
    found = {
        "machine": {"python": platform.python_version(), "system": platform.platform()},
        "versions": versions,
        "notes": list(notes),
        "rows": [
            {
                "scenario": row.scenario,
                "title": row.title,
                "results": [asdict(result) for result in row.results],
                "goals": [asdict(verdict) for verdict in row.verdicts()],
            }
            for row in rows
        ],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
