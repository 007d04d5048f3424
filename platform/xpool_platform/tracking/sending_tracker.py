"""The tracker of the process that drives a run: it writes the journal and sends all of them."""

from pathlib import Path

from xpool_platform.tracking.journal import REFUSED, TRACKING, num_unsent
from xpool_platform.tracking.journal_tracker import JournalTracker
from xpool_platform.tracking.sender import Destination, Say, Sender

AWAY_S = 10.0
"""How long the end of a run waits for a store that is away."""


class SendingTracker(JournalTracker):
    """The record of one run. What workers write into its journals is sent, too.

    Attributes: those of JournalTracker, and `experiment_id` of MLflow's experiment, empty where it
    is not known.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        uri: str,
        run_id: str,
        experiment_id: str,
        destination: Destination,
        say: Say,
    ) -> None:
        super().__init__(run_dir, "driver", uri=uri, run_id=run_id)
        self.experiment_id = experiment_id
        self._say = say
        self._sender = Sender(run_dir, destination, say)

    def close(self) -> None:
        """Send what is left; what cannot be sent stays, and is said."""
        super().close()
        self._sender.drain(AWAY_S)
        self._sender.stop()
        folder = self.run_dir / TRACKING
        if left := num_unsent(folder):
            self._say(
                f"{left} entries of the record of {self.run_dir.name} are not in MLflow at "
                f"{self.uri} yet ({self._sender.trouble}); python jobs/sync.py "
                f"{self.run_dir.name} sends them"
            )
        if self._sender.num_refused:
            self._say(
                f"MLflow at {self.uri} refused {self._sender.num_refused} entries of the record; "
                f"{folder / REFUSED} has them with the reasons"
            )
