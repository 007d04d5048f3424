"""What is known of each trial of a sweep: a file that outlives every process.

Where a sweep goes on is read from these files alone, so that nothing depends on what Ray keeps.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from xpool_platform.locations import write_whole
from xpool_platform.tune.distributions import Value

TrialStatus = Literal["RUNNING", "FINISHED", "STOPPED", "FAILED"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEvaluation:
    """An evaluation of a trial."""

    step: int
    num_pairs: int
    """Pairs seen by then."""

    metrics: dict[str, float]
    """As `val/t2v/R1`, and `val/t2v/R1_low` and `val/t2v/R1_high`, its 95 % interval."""

    seconds: float
    """Since the sweep began, as time passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialCopy:
    """How a trial became a copy of a better one, with values of its own from there on."""

    step: int
    source: str
    """Name of the better one."""

    values: dict[str, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """A trial. Its name is that of its run."""

    index: int
    name: str
    values: dict[str, Value]
    status: TrialStatus = "RUNNING"
    reason: str = ""
    """Why it failed."""

    run_id: str = ""
    """Its run in MLflow."""

    evaluations: list[TrialEvaluation] = field(default_factory=list)
    copies: list[TrialCopy] = field(default_factory=list)
    """In population-based training; what is said of it before the last copy is the other's."""

    def seen(self, evaluation: TrialEvaluation) -> "TrialRecord":
        """The record with one more evaluation; one of a step that it has is left out."""
        if any(each.step >= evaluation.step for each in self.evaluations):
            return self
        return replace(self, evaluations=[*self.evaluations, evaluation])


class TrialRecords:
    """The trials of a sweep, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: TrialRecord) -> None:
        """Keep a record, in place of the one before."""
        content = json.dumps(asdict(record), indent=1).encode()
        write_whole(str(self._folder / f"{record.index:04d}.json"), content)

    def read(self, index: int) -> TrialRecord | None:
        """A record, if there is one."""
        path = self._folder / f"{index:04d}.json"
        if not path.is_file():
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        said["evaluations"] = [TrialEvaluation(**each) for each in said["evaluations"]]
        said["copies"] = [TrialCopy(**each) for each in said["copies"]]
        return TrialRecord(**said)

    def all(self) -> list[TrialRecord]:
        """All records, by index."""
        found = (self.read(int(path.stem)) for path in sorted(self._folder.glob("*.json")))
        return [record for record in found if record is not None]
