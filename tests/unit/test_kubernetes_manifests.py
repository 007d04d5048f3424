"""KubeRay's manifests, by Kubernetes' schemas, KubeRay's fields and Ray's own reading of them."""

import copy
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kuberay_fields import KINDS, KUBERAY

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "platform/deploy/kuberay"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
KUBERNETES = "1.30"
"""The oldest that the manifests are for: what it knows, newer ones know."""

FREE = {"annotations", "data", "labels", "limits", "matchLabels", "rayStartParams", "requests"}
"""Below these a user chooses the keys."""


def objects(name):
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one]


def clusters():
    """The spec of each Ray cluster there is, by its file."""
    [cluster], [job] = objects("raycluster.yaml"), objects("rayjob.yaml")
    return {"raycluster.yaml": cluster["spec"], "rayjob.yaml": job["spec"]["rayClusterSpec"]}


def pod_templates(one):
    """Every pod template below, and the settings of the autoscaler's container as one more."""
    spec = one["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    templates = [group["template"] for group in groups]
    if "submitterPodTemplate" in spec:
        templates.append(spec["submitterPodTemplate"])
    container = {"name": "autoscaler", "image": "any"} | {
        key: cluster["autoscalerOptions"][key]
        for key in ("resources", "securityContext", "env", "envFrom", "volumeMounts")
        if key in cluster["autoscalerOptions"]
    }
    return [*templates, {"metadata": {}, "spec": {"containers": [container]}}]


def check(one):
    if one["kind"] not in KINDS:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        return
    jsonschema.Draft202012Validator(KINDS[one["kind"]]).validate(one)
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": one["metadata"]}
    kubernetes_validate.validate(named, KUBERNETES, strict=True)
    for template in pod_templates(one):
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": template}
        kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", FILES)
def test_the_objects_have_the_published_form(name):
    for one in objects(name):
        check(one)


def keys(value, path=()):
    """The path of each key that is Kubernetes' or KubeRay's and not of the user's choice."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key)
            if key not in FREE:
                yield from keys(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from keys(below, (*path, index))


@pytest.mark.parametrize("name", FILES)
def test_any_misspelt_key_is_an_error(name):
    checked = 0
    for one in objects(name):
        for *at, key in keys(one):
            if key in {"apiVersion", "kind"} and not at:
                continue
            wrong = copy.deepcopy(one)
            place = wrong
            for step in at:
                place = place[step]
            place[f"{key}x"] = place.pop(key)
            with pytest.raises(jsonschema.ValidationError):
                check(wrong)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", clusters())
def test_a_value_of_the_wrong_kind_is_an_error(name):
    [one] = objects(name)
    spec = one["spec"].get("rayClusterSpec", one["spec"])
    spec["authOptions"]["mode"] = "tokens"
    with pytest.raises(jsonschema.ValidationError, match="tokens"):
        check(one)


def test_the_job_s_cluster_is_the_other_file_s():
    standing, of_the_job = clusters().values()
    assert standing == of_the_job


@pytest.mark.parametrize("name", clusters())
def test_the_token_is_on_and_ray_is_the_locked_one(name):
    spec = clusters()[name]
    assert spec["authOptions"] == {"mode": "token"}
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert f"ray=={spec['rayVersion']} " in lock


@pytest.mark.parametrize("name", clusters())
def test_ray_start_knows_its_options_and_the_head_does_no_work(name):
    from ray.scripts.scripts import start

    spec = clusters()[name]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        options = [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        start.make_context("ray start", options)
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("name", clusters())
def test_ray_s_autoscaler_reads_groups_labels_and_resources(name):
    from ray.autoscaler._private.kuberay import autoscaling_config

    cluster = {"metadata": {"name": "xpool", "namespace": "default"}, "spec": clusters()[name]}
    # what the autoscaler's container does with the object that it has fetched
    types = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)[
        "available_node_types"
    ]
    seen = {
        name: (group["min_workers"], group["labels"].get("xpool/work"), group["resources"])
        for name, group in types.items()
    }
    gib = 1024**3
    assert seen == {
        "headgroup": (0, None, {"CPU": 0, "memory": 12 * gib}),
        "train": (1, "train", {"CPU": 8, "GPU": 1, "memory": 32 * gib}),
        "decode": (1, "decode", {"CPU": 8, "memory": 16 * gib}),
    }
    assert types["decode"]["max_workers"] > 1


@pytest.mark.parametrize("name", clusters())
def test_pods_are_healthy_by_what_ray_answers_without_the_token(name):
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    spec = clusters()[name]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["path"] in PUBLIC_EXACT_PATHS
            assert asked["port"] == DEFAULT_DASHBOARD_AGENT_LISTEN_PORT


@pytest.mark.parametrize("name", clusters())
def test_pods_run_as_nobody_in_particular_and_within_limits(name):
    [one] = objects(name)
    *templates, _ = pod_templates(one)
    for template in templates:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        assert template["metadata"]["labels"] == {"app.kubernetes.io/part-of": "xpool"}
    for group in clusters()[name]["workerGroupSpecs"]:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_what_the_pods_refer_to_is_there():
    common = {(one["kind"], one["metadata"]["name"]): one for one in objects("common.yaml")}
    policy = common[("NetworkPolicy", "xpool")]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "xpool"}
    for spec in clusters().values():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            assert ("ServiceAccount", pod["serviceAccountName"]) in common
            for volume in pod.get("volumes", []):
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in common
            storage, keys_for_it = pod["containers"][0]["envFrom"]
            assert ("ConfigMap", storage["configMapRef"]["name"]) in common
            assert keys_for_it["secretRef"] == {"name": "xpool-s3", "optional": True}
    mounts = clusters()["rayjob.yaml"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    settings = common[("ConfigMap", "xpool-storage")]["data"]
    assert settings["XPOOL_OUTPUT_DIR"] == mounts["volumeMounts"][0]["mountPath"]


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_written_down(name):
    assert all(one["kind"] != "Secret" for one in objects(name))
    text = (FOLDER / name).read_text()
    assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{16}|SECRET_ACCESS_KEY|PASSWORD|RAY_AUTH_TOKEN", text)


def test_the_documentation_installs_the_operator_that_was_checked():
    assert f"--version {KUBERAY}" in (CHECKOUT / "docs/kubernetes.md").read_text()
