"""How busy a node is while it trains, in the names that MLflow's page of system metrics knows."""

import threading
import time

import psutil
import pynvml

from xpool_platform.tracking.tracker import Tracker

FIRST_S, EVERY_S = 2.0, 10.0
MEGABYTE = 1e6


class SystemMetrics:
    """A thread that logs CPU, memory, network and GPUs of this node every ten seconds.

    Steps are seconds since began_s, so that they go on where a run does. `node` stands in the
    names where it is not empty.
    """

    def __init__(self, tracker: Tracker, began_s: float, node: str = "") -> None:
        self._tracker, self._began_s = tracker, began_s
        self._prefix = f"system/{node}/" if node else "system/"
        self._gpus = _gpus()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._log, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Log no more."""
        self._ended.set()
        self._thread.join()

    def _log(self) -> None:
        psutil.cpu_percent()  # the share since the call before
        before = psutil.net_io_counters()
        pause = FIRST_S
        while not self._ended.wait(pause):
            pause = EVERY_S
            memory, network = psutil.virtual_memory(), psutil.net_io_counters()
            received = network.bytes_recv - before.bytes_recv
            transmitted = network.bytes_sent - before.bytes_sent
            before = network
            values = {
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "system_memory_usage_megabytes": memory.used / MEGABYTE,
                "system_memory_usage_percentage": memory.percent,
                "network_receive_megabytes": received / MEGABYTE,
                "network_transmit_megabytes": transmitted / MEGABYTE,
            }
            for i, gpu in enumerate(self._gpus):
                values |= {f"gpu_{i}_{name}": value for name, value in _of_gpu(gpu).items()}
            step = int(time.time() - self._began_s)
            named = {f"{self._prefix}{name}": round(value, 1) for name, value in values.items()}
            self._tracker.log_metrics({step: named})


def _gpus() -> list[object]:
    """Handles of this node's GPUs, none where there is no driver."""
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _of_gpu(gpu: object) -> dict[str, float]:
    """What the driver tells; MIG slices and some cards tell less."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        return {
            "memory_usage_megabytes": memory.used / MEGABYTE,
            "memory_usage_percentage": 100 * memory.used / memory.total,
            "utilization_percentage": float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "power_usage_watts": pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        }
    except pynvml.NVMLError:
        return {}
