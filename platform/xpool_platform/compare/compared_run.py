"""A run as it is compared: what was run, its report, and the rank of each query."""

import json
from dataclasses import dataclass
from pathlib import Path

import cattrs
import pyarrow as pa

from xpool_platform.data.plain_text import named
from xpool_platform.errors import UserError
from xpool_platform.report import RetrievalReport
from xpool_platform.result_files import METRICS

_converter = cattrs.Converter()


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """A run and one evaluation of it."""

    run_id: str
    name: str
    experiment: str
    """Name of MLflow's experiment."""

    status: str
    """How it ended, as MLflow says it: `FINISHED` if well."""

    facts: dict[str, str]
    """What can make a run differ: parameters, and the tags and data that are more than a name."""

    report: RetrievalReport
    queries: pa.Table
    """Each query and its rank, as `read_ranked_queries` gives them."""

    @property
    def shown(self) -> str:
        """The name, fit for a terminal and a page."""
        return named(self.name) if self.name else self.run_id

    @property
    def selected_on_itself(self) -> bool:
        """Whether the checkpoint was chosen on the very split that is compared."""
        return self.report.selected_on == self.report.split


def read_report(path: Path, whose: str) -> RetrievalReport:
    """The report in a metrics.json; `whose` names the run in the error.

    Raises UserError if the file is of another kind.
    """
    try:
        return _converter.structure(json.loads(path.read_bytes()), RetrievalReport)
    except (ValueError, cattrs.BaseValidationError) as error:
        raise UserError(
            f"the {METRICS} of run {whose!r} is none of this version of the project; evaluate the "
            "run again by jobs/evaluate.py, and compare the evaluation"
        ) from error
