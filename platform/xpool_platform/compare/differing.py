"""What was run differently."""

from collections.abc import Mapping, Sequence

ALWAYS_DIFFERENT = frozenset(
    ("run_name", "output_dir", "against", "save_scores", "into_training_run")
)
"""Parameters that say where a run is, not what it is."""

PLACES = "tracking."
"""Section of the config of which the same holds."""

TAGS = "git.", "data.", "stopped_early"
"""Beginnings of the tags that say what a run is; others tell where and when it ran."""


def facts_of(
    params: Mapping[str, str], tags: Mapping[str, str], datasets: Mapping[str, str]
) -> dict[str, str]:
    """What can make the figures of a run differ from another's, by name."""
    facts = {
        name: value
        for name, value in params.items()
        if name not in ALWAYS_DIFFERENT and not name.startswith(PLACES)
    }
    facts |= {f"tag {name}": value for name, value in tags.items() if name.startswith(TAGS)}
    return facts | {f"dataset {used_for}": value for used_for, value in datasets.items()}


def differing(facts: Sequence[Mapping[str, str]]) -> dict[str, list[str | None]]:
    """The facts that are not the same in all runs: of each run its value, None where it has none.

    In the order of the first run's, parameters before tags before data.
    """
    names = dict.fromkeys(name for of_run in facts for name in of_run)
    values = {name: [of_run.get(name) for of_run in facts] for name in names}
    found = {name: of_runs for name, of_runs in values.items() if len(set(of_runs)) > 1}
    return dict(sorted(found.items(), key=lambda item: _kind(item[0])))


def _kind(name: str) -> int:
    return 1 if name.startswith("tag ") else 2 if name.startswith("dataset ") else 0
