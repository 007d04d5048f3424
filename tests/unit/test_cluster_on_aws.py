"""What `ray up cluster.yaml` asks of AWS, up to the launch of a node, by moto's imitation of it."""

import json
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """(whole config, Ray's provider, EC2 client), in an account with docs/aws.md's profiles."""
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider

    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    cluster = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text())
    region = cluster["provider"]["region"]
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for profile in ("xpool-head", "xpool-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
        config = _bootstrap_config(cluster, no_config_cache=True)
        provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
        yield config, provider, boto3.client("ec2", region_name=region)


@pytest.fixture
def launch(launcher):
    """Launches a node of a type, while EC2 refuses spot instances with `code` if there is one."""
    config, provider, _ = launcher
    events = provider.ec2_fail_fast.meta.client.meta.events

    def launch(node_type, code):
        def refuse(params, **_):
            if code and any(key.startswith("InstanceMarketOptions") for key in params["body"]):
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, "RunInstances")

        events.register("before-call.ec2.RunInstances", refuse)
        try:
            made = provider.create_node_with_resources_and_labels(
                config["available_node_types"][node_type]["node_config"],
                {"ray-node-kind": "worker", "ray-user-node-type": node_type},
                1,
                {},
                {},
            )
        finally:
            events.unregister("before-call.ec2.RunInstances", refuse)
        [instance] = made.values()
        return instance

    return launch


def test_ray_finds_out_what_the_nodes_have(launcher):
    types = launcher[0]["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["train"]["resources"]["GPU"] == 1
    assert types["decode"]["resources"]["CPU"] == types["decode_spot"]["resources"]["CPU"] == 16
    assert "GPU" not in types["decode"]["resources"]


def test_only_ssh_is_open_to_others(launcher):
    config, _, ec2 = launcher
    [group] = config["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
    [described] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    open_to_others = [rule for rule in described["IpPermissions"] if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_others] == [(22, 22)]
    among_nodes = [rule for rule in described["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert [pair["GroupId"] for r in among_nodes for pair in r["UserIdGroupPairs"]] == [group]


def test_a_spot_node_is_one_where_there_are_some(launch):
    assert launch("decode_spot", None).instance_lifecycle == "spot"


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"]
)
def test_a_spot_node_is_launched_on_demand_where_there_are_none(launch, code):
    instance = launch("decode_spot", code)
    assert instance.instance_lifecycle is None
    assert {tag["Key"]: tag["Value"] for tag in instance.tags}[
        "ray-user-node-type"
    ] == "decode_spot"


def test_another_refusal_is_passed_on(launch):
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    with pytest.raises(NodeLaunchException, match="UnauthorizedOperation"):
        launch("decode_spot", "UnauthorizedOperation")


@pytest.mark.parametrize("name", ["trust", "bucket", "launch"])
def test_the_roles_allow_what_aws_has_and_one_bucket(name):
    import botocore.session

    session = botocore.session.get_session()
    policy = json.loads((CHECKOUT / f"platform/deploy/aws/{name}.json").read_text())
    for statement in policy["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            service, operation = action.split(":")
            if service in {"ec2", "sts", "ssm"}:
                assert operation in session.get_service_model(service).operation_names
            if service == "s3":
                assert statement["Resource"].startswith("arn:aws:s3:::CHANGE-ME")


@pytest.mark.parametrize(
    ("work", "resources", "grown"),
    [
        # 64 CPUs of decoding: the group on demand is at its 1, spot nodes take the rest
        ("decode", [{"CPU": 1}] * 64, {"train": 1, "decode": 1, "decode_spot": 3}),
        ("train", [{"CPU": 1, "GPU": 1}], {"train": 1, "decode": 1}),
        # tasks that ask for training nodes never grow the decoding ones
        ("train", [{"CPU": 1}] * 64, {"train": 1, "decode": 1}),
    ],
)
def test_the_autoscaler_grows_the_group_that_is_asked_for(launcher, work, resources, grown):
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.common_pb2 import LabelSelectorOperator

    # as the head gets it: without what bootstrapping adds for the launcher alone
    config = {key: value for key, value in launcher[0].items() if key != "head_node"}
    groups = AutoscalingConfig(config, skip_content_hash=True)
    is_work = ("xpool/work", LabelSelectorOperator.LABEL_OPERATOR_IN, [work])
    asked = [ResourceRequestUtil.make(one, label_selectors=[[is_work]]) for one in resources]
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=groups.get_node_type_configs(),
            max_num_nodes=groups.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(asked),
        )
    )
    assert {launch.instance_type: launch.count for launch in reply.to_launch} == grown
