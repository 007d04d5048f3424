"""What the page of a run says of its data and its result."""

import shlex
import subprocess

import pyarrow as pa

from xpool_platform.data.decode import BadVideo
from xpool_platform.experiments import experiment
from xpool_platform.report import RetrievalReport
from xpool_platform.run_inputs import dataset_records, digest
from xpool_platform.run_note import run_note

KEYS = [f"{way}/{name}" for way in ("t2v", "v2t") for name in ("R1", "R5", "R10", "R50")]
KEYS += [f"{way}/{name}" for way in ("t2v", "v2t") for name in ("MdR", "MnR")]


def videos(**changes) -> pa.Table:
    columns = {
        "video_id": ["a", "b", "c"],
        "split": ["train", "train", "test"],
        "captions": [["one", "two"], ["three"], ["four"]],
        "start_s": [None, 1.5, None],
        "end_s": [None, 3.0, None],
        "num_frames": [16, 16, 20],
        "duration_s": [1800.0, 1800.0, 36.0],
        "frames_uri": ["/x/1", "/x/2", "/x/3"],
    }
    return pa.table(columns | changes)


def report(**changes) -> RetrievalReport:
    return RetrievalReport(
        **{
            "split": "test",
            "num_videos": 200,
            "num_captions": 1600,
            "metrics": dict.fromkeys(KEYS, 12.34) | {"t2v/R1": 44.8},
            "intervals": dict.fromkeys(KEYS, (11.1, 13.3)) | {"t2v/R1": (41.3, 48.5)},
            "chance": dict.fromkeys(KEYS, 0.5),
            "processed_metrics": {},
            "processed_intervals": {},
            "selected_on": "val",
            **changes,
        }
    )


def test_each_split_has_its_counts_and_a_digest():
    train, test = dataset_records(videos(), experiment("shapes"), {"train", "val", "test"})
    assert (train.name, train.context) == ("shapes-train", "train")
    assert train.profile == {"num_videos": 2, "num_captions": 3, "hours": 1.0}
    assert test.profile == {"num_videos": 1, "num_captions": 1, "hours": 0.01}
    assert train.digest != test.digest
    assert train.source["source"] == "shapes"


def test_a_digest_tells_captions_and_segments_apart_and_not_places():
    base = digest(videos())
    assert digest(videos(frames_uri=["/y/1", "/y/2", "/y/3"])) == base
    assert digest(videos(captions=[["one", "two!"], ["three"], ["four"]])) != base
    assert digest(videos(start_s=[None, 1.6, None])) != base
    assert digest(videos(video_id=["a", "b", "d"])) != base


def test_the_note_has_the_table_the_command_and_the_commit():
    git = {"git.commit": "0123456789abcdef", "git.clean": "true"}
    note = run_note(report(), command="python jobs/train.py shapes --train.seed 7", git=git)
    assert "**test**: 1,600 captions, 200 videos;" in note
    assert "| text to video | 44.8 (41.3–48.5) | 12.3 (11.1–13.3) |" in note
    assert "chosen by t2v R@1 on val." in note
    assert "at commit `0123456789ab`:\n\n    python jobs/train.py shapes --train.seed 7" in note
    assert "changes" not in note
    assert "Left out" not in note


def test_the_command_is_narrow_and_the_same_to_a_shell():
    words = ["python", "jobs/train.py", "shapes", "--data.root", "my videos/it's", "--figures"]
    for i in range(20):
        words += [f"--option-{i}", str(i)]
    note = run_note(report(), command=shlex.join(words), git={})
    shown = [line for line in note.splitlines() if line.startswith("    ")]
    assert max(map(len, shown)) < 80
    assert len(shown) > 3
    printed = "\n".join(shown).replace("python", "printf '%s\\n'", 1)
    done = subprocess.run(["/bin/sh", "-c", printed], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words[1:]


def test_the_note_warns_of_what_makes_figures_doubtful():
    git = {"git.commit": "0123456789abcdef", "git.clean": "false"}
    bad = [
        BadVideo(video_id=f"v{i}", uri="", split="test", kind="damaged", reason="cut short")
        for i in range(30)
    ]
    note = run_note(
        report(selected_on="test", num_missing=30), command="c", git=git, bad=bad, more="More."
    )
    assert "optimistic" in note
    assert "30 more missing" in note
    assert "with changes that are not in it" in note
    assert "Left out, 30 videos" in note
    assert "- `v0` (test): damaged, cut short" in note
    assert "- and 10 more" in note
    assert "More." in note
    assert "of a checkout without git" in run_note(report(), command="c", git={})
