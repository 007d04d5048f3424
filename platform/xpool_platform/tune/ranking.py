"""Which trials are better: by the figures of the checkpoint that each of them chose."""

from collections.abc import Sequence
from dataclasses import dataclass

from xpool_platform.sweep_config import SweepConfig, is_rank
from xpool_platform.tune.trial_record import TrialEvaluation, TrialRecord


@dataclass(frozen=True, slots=True)
class Ranking:
    """By one or several metrics."""

    metrics: list[str]
    """As `val/t2v/R1`; of several the first ranks."""

    selects_by: str
    """What a training chooses its checkpoint by: t2v R@1 on train.select_on."""

    mean_of: int
    """train.select_mean_of: the newest evaluations whose mean it takes."""

    @classmethod
    def of(cls, config: SweepConfig) -> "Ranking":
        """That of a sweep."""
        train = config.train
        return cls(config.metrics, f"{train.select_on}/t2v/R1", train.select_mean_of)

    @property
    def metric(self) -> str:
        """What ranks."""
        return self.metrics[0]

    def chosen(self, record: TrialRecord) -> TrialEvaluation | None:
        """The evaluation of the checkpoint that was chosen; None if there was none."""
        recalls = [each.metrics[self.selects_by] for each in record.evaluations]
        if not recalls:
            return None
        newest = [recalls[max(0, i - self.mean_of) : i] for i in range(1, len(recalls) + 1)]
        means = [sum(part) / len(part) for part in newest]
        return record.evaluations[means.index(max(means))]

    def value(self, record: TrialRecord, metric: str | None = None) -> float | None:
        """Its figure in a metric, the one that ranks if none is named."""
        chosen = self.chosen(record)
        return None if chosen is None else chosen.metrics[metric or self.metric]

    def ranked(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those that were evaluated and did not fail, the best first; of equal ones the first."""
        return sorted(self._known(records), key=lambda each: (self._costs(each)[0], each.index))

    def front(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those that none betters in one metric without being worse in another."""
        costs = [(each, self._costs(each)) for each in self.ranked(records)]
        return [
            one
            for one, own in costs
            if not any(
                other != own and all(a <= b for a, b in zip(other, own, strict=True))
                for _, other in costs
            )
        ]

    def _known(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        return [each for each in records if each.status != "FAILED" and each.evaluations]

    def _costs(self, record: TrialRecord) -> list[float]:
        chosen = self.chosen(record)
        assert chosen is not None
        return [chosen.metrics[name] * (1 if is_rank(name) else -1) for name in self.metrics]
