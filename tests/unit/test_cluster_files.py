"""cluster.yaml and cluster.static.yaml, by Ray's own schema and parsers and by EC2's model."""

import copy
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
FILES = ["cluster.yaml", "cluster.static.yaml"]
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
NOT_IN_THE_SCHEMA = {"module", "head_ip", "worker_ips"}
"""What the launcher reads of `provider` and Ray's schema does not list."""


def read(name):
    return yaml.safe_load((CHECKOUT / name).read_text())


def check(cluster):
    """Ray's checks, and the two places where Ray lets any key pass: provider and node_config."""
    import botocore.session
    import ray
    from botocore.validate import validate_parameters
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    known = schema["properties"]["provider"]["properties"].keys() | NOT_IN_THE_SCHEMA
    if unknown := cluster["provider"].keys() - known:
        raise ValueError(f"provider: {sorted(unknown)}")
    if cluster["provider"]["type"] == "local":
        return
    ec2 = botocore.session.get_session().get_service_model("ec2")
    launched = ec2.operation_model("RunInstances").input_shape
    for node_type in cluster["available_node_types"].values():
        asked = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
        validate_parameters(asked, launched)


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name):
    check(read(name))


def misspelt(cluster, at, key):
    wrong = copy.deepcopy(cluster)
    place = wrong
    for step in at:
        place = place[step]
    place[key[:-1]] = place.pop(key)
    return wrong


HEAD = ["available_node_types", "head"]


@pytest.mark.parametrize(
    ("name", "at", "key"),
    [
        ("cluster.yaml", [], "idle_timeout_minutes"),
        ("cluster.yaml", [], "file_mounts"),
        ("cluster.yaml", [], "head_start_ray_commands"),
        ("cluster.yaml", ["auth"], "ssh_user"),
        ("cluster.yaml", ["provider"], "availability_zone"),
        ("cluster.yaml", ["available_node_types", "train"], "min_workers"),
        ("cluster.yaml", ["available_node_types", "decode"], "labels"),
        ("cluster.yaml", ["available_node_types", "decode_spot"], "node_config"),
        ("cluster.yaml", [*HEAD, "node_config"], "InstanceType"),
        ("cluster.yaml", [*HEAD, "node_config", "IamInstanceProfile"], "Name"),
        ("cluster.yaml", [*HEAD, "node_config", "BlockDeviceMappings", 0, "Ebs"], "VolumeSize"),
        (
            "cluster.yaml",
            ["available_node_types", "decode_spot", "node_config", "InstanceMarketOptions"],
            "MarketType",
        ),
        ("cluster.static.yaml", [], "worker_start_ray_commands"),
        ("cluster.static.yaml", ["provider"], "worker_ips"),
        ("cluster.static.yaml", ["auth"], "ssh_private_key"),
    ],
)
def test_a_misspelt_key_is_an_error(name, at, key):
    from botocore.exceptions import ParamValidationError
    from click import ClickException
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, ParamValidationError, ClickException, ValueError)):
        check(misspelt(read(name), at, key))


def commands(cluster):
    return [command for key in COMMANDS for command in cluster[key]]


@pytest.mark.parametrize("name", FILES)
def test_the_shell_can_read_each_command(name):
    for command in commands(read(name)):
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)


def started(cluster):
    """Each `ray start` with what stands before it: (the shell's part, the options)."""
    found = [
        re.fullmatch(r"(.*)\bray start (.*)", command, re.DOTALL)
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in cluster[key]
        if "ray start" in command
    ]
    assert len(found) == 2
    return [(match[1], shlex.split(match[2])) for match in found]


@pytest.mark.parametrize("name", FILES)
def test_ray_start_knows_its_options_and_works_only_off_the_head(name):
    from ray.scripts.scripts import start

    head, worker = (start.make_context("ray start", list(args)) for _, args in started(read(name)))
    assert head.params["head"]
    assert head.params["num_cpus"] == 0
    assert head.params["dashboard_host"] == "127.0.0.1"
    assert not worker.params["head"]
    assert worker.params["num_cpus"] is None


@pytest.mark.parametrize("name", FILES)
def test_every_node_starts_with_the_token(name):
    cluster = read(name)
    for shell, _ in started(cluster):
        assert 'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"' in shell
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in cluster["setup_commands"])


@pytest.mark.parametrize("name", FILES)
def test_no_key_and_no_open_door_is_written_down(name):
    cluster = read(name)
    assert "security_group" not in cluster["provider"]
    text = (CHECKOUT / name).read_text()
    assert "0.0.0.0" not in text
    assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{16}|SECRET|PASSWORD|aws_credentials", text)


def test_each_group_is_labelled_for_its_work_and_decoding_never_lacks_a_node():
    from ray._private.label_utils import validate_node_label_syntax

    groups = read("cluster.yaml")["available_node_types"]
    for group in groups.values():
        validate_node_label_syntax(group.get("labels", {}))
    works = {name: group.get("labels", {}).get("xpool/work") for name, group in groups.items()}
    assert works == {"head": None, "train": "train", "decode": "decode", "decode_spot": "decode"}
    assert groups["head"]["resources"] == {"CPU": 0}
    assert groups["train"]["min_workers"] == groups["train"]["max_workers"] == 1
    assert groups["decode"]["min_workers"] == 1
    assert "InstanceMarketOptions" not in groups["decode"]["node_config"]
    spot = groups["decode_spot"]["node_config"]
    assert spot["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert spot["InstanceType"] == groups["decode"]["node_config"]["InstanceType"]


def environment(cluster, home, path):
    """The variables that a node's `environment` file leaves, its setup command run in `home`."""
    (home / "xpool").mkdir(parents=True)
    [write] = [c for c in cluster["setup_commands"] if c.startswith("cat > ~/xpool/environment")]
    shell = f"{write}\n. ~/xpool/environment; env -0"
    inherited = {"HOME": str(home), "PATH": f"{path}:{os.defpath}"}
    printed = subprocess.check_output(["bash", "-ec", shell], env=inherited, text=True)
    return dict(line.split("=", 1) for line in printed.split("\0") if line)


@pytest.mark.parametrize("name", FILES)
def test_a_node_finds_the_token_and_the_packages(name, tmp_path):
    found = environment(read(name), tmp_path, "/nowhere")
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_AUTH_TOKEN_PATH"] == f"{tmp_path}/.ray/auth_token"
    assert found["PATH"].startswith(f"{tmp_path}/xpool/.venv/bin:")
    assert found["XPOOL_OUTPUT_DIR"]


@pytest.mark.parametrize(
    ("lists", "work"), [("echo 'GPU 0: NVIDIA L4'", "train"), ("exit 9", "decode"), ("", "decode")]
)
def test_a_machine_finds_out_what_it_is_for(lists, work, tmp_path):
    from ray._private.label_utils import parse_node_labels_string, validate_node_label_syntax

    tools = tmp_path / "bin"
    tools.mkdir()
    if lists:
        (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{lists}\n")
        (tools / "nvidia-smi").chmod(0o755)
    cluster = read("cluster.static.yaml")
    found = environment(cluster, tmp_path / "home", tools)
    assert found["XPOOL_WORK"] == work
    (_, worker) = started(cluster)[1]
    [option] = [part for part in worker if part.startswith("--labels=")]
    labels = parse_node_labels_string(
        option.removeprefix("--labels=").replace("$XPOOL_WORK", found["XPOOL_WORK"])
    )
    validate_node_label_syntax(labels)
    assert labels == {"xpool/work": work}
