"""A logged model in a fresh process of an environment that has not this project."""

import json
import os
import subprocess
from pathlib import Path

from conftest import environment, make_environment

from xpool_platform.tracking.needed_code import needed_code

SCRIPT = """
import json, sys, types
from pathlib import Path

events = []
def watch(event, arguments):
    if event == "pickle.find_class":
        events.append(repr(arguments))
sys.addaudithook(watch)

import mlflow.pyfunc
import psutil
import torch

def refused(*_, **__):
    raise AssertionError("torch.load was called")
torch.load = refused

uri, folder, request = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri, dst_path=folder)
example = json.loads(Path(folder, "input_example.json").read_text())
request = json.loads(request)
scores = model.predict(request)["scores"][0]
example_scores = model.predict(example)["scores"][0]

from mlflow.pyfunc.scoring_server import invocations
import xpool_platform.data.decode_child  # runs in the child
body = Path(folder, "serving_input_example.json").read_text()
answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
ours = {name for name in sys.modules if name.split(".")[0] in ("xpool", "xpool_platform")}
print(json.dumps({
    "scores": scores,
    "example_scores": example_scores,
    "served": json.loads(answer.response)["predictions"][0]["scores"],
    "elsewhere": [n for n in ours if not Path(sys.modules[n].__file__).is_relative_to(folder)],
    "child": [c.environ()["PYTHONPATH"] for c in psutil.Process().children()],
    "modules": sorted(ours | ({"ray"} & set(sys.modules))),
    "unpickled": events,
}))
"""


def loaded_elsewhere(
    uri: str, folder: Path, tracking_uri: str, *, texts: list[str], videos: list[str]
) -> dict:
    """What a process that loads the model of this URI finds, the `scores` of the videos first.

    Uses a new folder. What it says of itself is checked: no code of ours but the model's own, Ray
    not there, nothing unpickled, and the same scores from a server for the model's own example.
    """
    target = folder / "downloaded"
    target.mkdir(parents=True)
    request = json.dumps({"texts": texts, "videos": videos})
    done = subprocess.run(
        [
            make_environment(folder / "environment"),
            *("-c", SCRIPT, uri, str(target), request),
        ],
        cwd=folder,
        env={
            **{k: v for k, v in environment().items() if k != "PYTHONPATH"},
            "MLFLOW_TRACKING_URI": tracking_uri,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["child"] == [os.pathsep.join([str(target / "code")] * 2)]
    assert found["served"] == found["example_scores"]
    assert found["elsewhere"] == []
    assert found["unpickled"] == []
    assert "xpool_platform.packaged_model" in found["modules"]
    needed = needed_code(["xpool_platform.packaged_model", "xpool_platform.data.decode_child"])
    files = (place.removesuffix(".py").removesuffix("/__init__") for place in needed.files)
    assert found["modules"] == sorted(name.replace("/", ".") for name in files)
    return found
