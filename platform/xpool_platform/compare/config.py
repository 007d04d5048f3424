"""What is compared."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """Where the runs are recorded."""

    uri: str = ""
    """MLflow's tracking URI; empty: the SQLite file in the output folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonConfig:
    """Runs that rank the same queries."""

    runs: tuple[str, ...]
    """Runs by name or id. A sweep stands for those of its trials that have a report."""

    baseline: str = ""
    """The run that the others are tested against; empty: the first."""

    split: str = ""
    """Of runs that were evaluated on several splits, the one to compare; empty: their own."""

    name: str = ""
    """Name of the comparison, a new one; empty: made from the time."""

    num_resamples: int = 10_000
    """Bootstrap resamples of the paired tests."""

    output_dir: str = ""
    """Where `comparisons/NAME` goes and MLflow's file is; empty: `outputs`."""

    tracking: RecordConfig = field(default_factory=RecordConfig)
    """The record of the runs."""

    def __post_init__(self) -> None:
        if self.num_resamples < 100:
            raise ValueError(f"num_resamples must be at least 100, not {self.num_resamples}")
