"""What a training worker records: rank 0 the run, the first one of each node its load."""

from pathlib import Path

import ray.train

from xpool_platform.tracking.journal_tracker import JournalTracker
from xpool_platform.train.job import TrainingJob
from xpool_platform.train.run_folder import PassedOn
from xpool_platform.train.system_metrics import SystemMetrics


class WorkerRecord:
    """Attributes: `tracker`, that of the run; None on all workers but rank 0."""

    def __init__(self, job: TrainingJob) -> None:
        context = ray.train.get_context()
        self._passed_on: PassedOn | None = None
        records = context.get_world_rank() == 0 or context.get_local_rank() == 0
        if records and job.folder is not None and not job.folder.is_here():
            self._passed_on = PassedOn(job.folder)
        self.tracker: JournalTracker | None = None
        self._of_node: JournalTracker | None = None
        self._system_metrics: SystemMetrics | None = None
        if context.get_world_rank() == 0:
            self.tracker = self._of_node = _journal(job, "rank0")
        elif context.get_local_rank() == 0:
            self._of_node = _journal(job, f"node{context.get_node_rank()}")
        if self._of_node is not None:
            node = f"node{context.get_node_rank()}" if self.tracker is None else ""
            self._system_metrics = SystemMetrics(self._of_node, self._of_node.began_s, node)

    def pass_on(self) -> None:
        """Return when all that was recorded is where the driver sees it."""
        if self._passed_on is not None:
            self._passed_on.pass_on()

    def close(self) -> None:
        """Record no more."""
        if self._system_metrics is not None:
            self._system_metrics.stop()
        if self._of_node is not None:
            self._of_node.close()
        if self._passed_on is not None:
            self._passed_on.close()


def _journal(job: TrainingJob, who: str) -> JournalTracker:
    return JournalTracker(Path(job.run_dir), who, uri=job.tracking_uri, run_id=job.run_id)
