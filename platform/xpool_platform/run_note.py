"""The note on a run's page: what came out, how to have it again, what was left out."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence

from xpool_platform.data.decode import BadVideo
from xpool_platform.report import DIRECTIONS, TITLES, RetrievalReport

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""

MAX_LISTED = 20
MAX_LINE = 72
"""Characters of a line of code: MLflow wraps none, and its page gets as wide as the longest."""


def run_note(
    report: RetrievalReport,
    *,
    command: str,
    git: Mapping[str, str],
    bad: Sequence[BadVideo] = (),
    more: str = "",
) -> str:
    """In Markdown: the result table, how the checkpoint was chosen, the command, the bad videos.

    `git` are the run's tags `git.commit` and `git.clean`; `more` is put after the table.
    """
    chosen = (
        f" The checkpoint was chosen by t2v R@1 on {report.selected_on}."
        if report.selected_on
        else ""
    )
    if report.selected_on == report.split:
        chosen += " **That is the split reported here, so that the figures are optimistic.**"
    missing = f", {report.num_missing} more missing" if report.num_missing else ""
    parts = [
        _table(report),
        f"**{report.split}**: {report.num_captions:,} captions, {report.num_videos:,} videos"
        f"{missing}; 95 % bootstrap intervals over videos in brackets.{chosen}",
        more,
        f"Again, {_commit(git)}:\n\n{textwrap.indent(_in_lines(command), '    ')}",
        _left_out(bad),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(report: RetrievalReport) -> str:
    lines = [
        "| | " + " | ".join(TITLES.values()) + " |",
        "|---|" + "---:|" * len(TITLES),
    ]
    for way, words in DIRECTIONS.items():
        keys = [f"{way}/{name}" for name in TITLES]
        cells = [
            f"{report.metrics[key]:.1f} ({low:.1f}–{high:.1f})"
            for key in keys
            for low, high in (report.intervals[key],)
        ]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
        chance = [f"{report.chance[key]:.1f}" for key in keys]
        lines.append("| *chance* | " + " | ".join(chance) + " |")
    return "\n".join(lines)


def _in_lines(command: str) -> str:
    """The same command to a shell, with each option's value on the option's line."""
    options: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if options and not word.startswith("--"):
            options[-1] += f" {word}"
        else:
            options.append(word)
    lines = options[:1]
    for option in options[1:]:
        if len(lines[-1]) + 1 + len(option) <= MAX_LINE:
            lines[-1] += f" {option}"
        else:
            lines.append(f"  {option}")
    return " \\\n".join(lines)


def _commit(git: Mapping[str, str]) -> str:
    if "git.commit" not in git:
        return "of a checkout without git"
    changed = "" if git["git.clean"] == "true" else " **with changes that are not in it**"
    return f"at commit `{git['git.commit'][:12]}`{changed}"


def _left_out(bad: Sequence[BadVideo]) -> str:
    if not bad:
        return ""
    shown = [
        f"- `{each.video_id}` ({each.split}): {each.kind}, {each.reason}"
        for each in bad[:MAX_LISTED]
    ]
    more = [f"- and {len(bad) - MAX_LISTED} more"] if len(bad) > MAX_LISTED else []
    listed = "\n".join([*shown, *more])
    return f"Left out, {len(bad)} videos that cannot be decoded (errors.parquet):\n\n{listed}"
