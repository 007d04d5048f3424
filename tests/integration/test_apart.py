"""Hosts that share an object store and no disk."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment, finish
from hosts import Hosts, start_ray
from test_cluster import START_S
from test_networks import hosts  # noqa: F401  # a fixture
from watched_runs import losses, read_until_step, training_workers

from free_port import free_port
from videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_STEPS = 40
OPTIONS = (
    *("--train.num-workers", "1", "--train.batch-size", "8", "--train.num-steps", str(NUM_STEPS)),
    *("--train.checkpoint-steps", "5", "--train.evals-per-run", "2", "--eval.num-resamples", "50"),
    *("--data.short-side", "64", "--model.dropout", "0"),
)
FILL = """
import pathlib, sys, boto3
client = boto3.client("s3")
client.create_bucket(Bucket="lab")
for path in pathlib.Path(sys.argv[1]).iterdir():
    client.upload_file(str(path), "lab", f"videos/{path.name}")
"""


@pytest.fixture
def apart(hosts, tmp_path):  # noqa: F811
    """Host a with the driver and the decoding, host b, which sees none of a's files, to train."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(16):
        write_video(videos / f"{i}.mp4", 40 + i)
    lines = [f"{i}.mp4,caption number {i}\n" for i in range(16)]
    (videos / "captions.csv").write_text("video,caption\n" + "".join(lines))
    for host in ("a", "b"):
        hosts.add(host)
    hosts.join("a", "10.9.0.1", "b", "10.9.0.2")
    port = free_port()
    store = subprocess.Popen(
        [
            *hosts.within("a"),
            sys.executable,
            "-m",
            "moto.server",
            "-H",
            "10.9.0.1",
            "-p",
            str(port),
        ],
        env=environment(**hosts.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    hosts.environment |= {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://10.9.0.1:{port}",
    }
    fill = [*hosts.within("a"), sys.executable, "-c", FILL, str(videos)]
    deadline = time.monotonic() + START_S
    while subprocess.run(fill, env=environment(**hosts.environment), check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(1)
    hosts.hidden["b"] = tmp_path / "out"
    hosts.hidden["b"].mkdir()
    start_ray(
        *(hosts, "a", "10.9.0.1", 1, {"b": "10.9.0.2"}),
        head_options=("--labels=xpool/work=decode", "--include-dashboard=false"),
        options=("--labels=xpool/work=train",),
    )
    yield hosts
    store.terminate()
    store.wait()


def job(hosts: Hosts, out: Path, *arguments: str, **places: str):  # noqa: F811
    hosts.environment |= places
    return hosts.job("a", "10.9.0.1", *arguments, *OPTIONS, "--output-dir", str(out))


def test_what_a_worker_records_arrives_where_the_driver_is(apart, tmp_path):
    out = tmp_path / "out"
    videos = ("clips", "--data.root", "s3://lab/videos")
    refused = finish(job(apart, out, *videos, "--run-name", "disk"))
    assert refused.status == 1
    assert "node 10.9.0.2 does not reach output_dir" in refused.err
    assert "--train.checkpoints-dir and --data.frames-dir to one, such as" in refused.err
    refused = finish(job(apart, out, "shapes", "--run-name", "made"))
    assert "set --output-dir to a place that all nodes share, since the" in refused.err

    (out / "weights").write_bytes(b"of the driver's host")
    begun = ("--init-from", str(out / "weights"), "--run-name", "begun")
    refused = finish(job(apart, out, *videos, *begun))
    assert f"init_from {out}/weights: node 10.9.0.2 does not see it" in refused.err

    places = {"XPOOL_FRAMES_DIR": "s3://lab/frames", "XPOOL_CHECKPOINTS_DIR": "s3://lab/runs"}
    process = job(apart, out, *videos, "--run-name", "apart", **places)
    read_until_step(process, 12)
    (worker,) = training_workers(apart.marker)
    worker.kill()
    done = finish(process)
    assert done.status == 0, done.err
    assert "going on from step" in done.out
    assert len(losses(out, "apart", NUM_STEPS, "clips")) == NUM_STEPS
    run_dir = out / "runs" / "apart"
    metrics = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert 0 <= metrics["t2v/R1"] <= 100
    for name in ("report.html", "ranks.parquet", "figures/recall.png"):
        assert (run_dir / name).stat().st_size > 0
    assert not (run_dir / "checkpoints").exists()
