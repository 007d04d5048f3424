"""What KubeRay 1.6.2 knows in a RayJob and a RayCluster, after its published API reference.

Written down from `docs/reference/api.md` of ray-project/kuberay, which is made from the types that
its CRDs are made from: all fields, their types, choices and least values. Most of a CRD is the
form of pod templates, which test_kubernetes_manifests.py checks by Kubernetes' own schema.
"""

from typing import Any

KUBERAY = "1.6.2"

WHOLE: dict[str, Any] = {"type": "integer"}
YES_NO = {"type": "boolean"}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
OF_KUBERNETES = {"type": "object"}
"""A Kubernetes type of its own, such as a pod template: not looked into here."""


def one_of(*choices: str) -> dict[str, Any]:
    return {"enum": list(choices)}


def list_of(kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": kind}


def fields(required: str = "", /, **properties: Any) -> dict[str, Any]:
    """An object of these fields and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


AUTH_OPTIONS = fields(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=YES_NO)

AUTOSCALER_OPTIONS = fields(
    resources=OF_KUBERNETES,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    securityContext=OF_KUBERNETES,
    idleTimeoutSeconds=WHOLE,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env=list_of(OF_KUBERNETES),
    envFrom=list_of(OF_KUBERNETES),
    volumeMounts=list_of(OF_KUBERNETES),
)

HEAD_GROUP = fields(
    "template rayStartParams",
    template=OF_KUBERNETES,
    headService=OF_KUBERNETES,
    enableIngress=YES_NO,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
)

WORKER_GROUP = fields(
    "groupName minReplicas maxReplicas template rayStartParams",
    suspend=YES_NO,
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    idleTimeoutSeconds=WHOLE,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=OF_KUBERNETES,
    scaleStrategy=fields(workersToDelete=list_of(TEXT)),
    numOfHosts=WHOLE,
)

REDIS_CREDENTIAL = fields(value=TEXT, valueFrom=OF_KUBERNETES)

CLUSTER_SPEC = fields(
    "headGroupSpec",
    upgradeStrategy=fields(type=one_of("Recreate", "None")),
    authOptions=AUTH_OPTIONS,
    suspend=YES_NO,
    managedBy=one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    autoscalerOptions=AUTOSCALER_OPTIONS,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=YES_NO,
    gcsFaultToleranceOptions=fields(
        "redisAddress",
        redisAddress=TEXT,
        redisUsername=REDIS_CREDENTIAL,
        redisPassword=REDIS_CREDENTIAL,
        externalStorageNamespace=TEXT,
    ),
    headGroupSpec=HEAD_GROUP,
    rayVersion=TEXT,
    workerGroupSpecs=list_of(WORKER_GROUP),
)

JOB_SPEC = fields(
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    rayClusterSpec=CLUSTER_SPEC,
    submitterPodTemplate=OF_KUBERNETES,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=fields(backoffLimit=WHOLE),
    managedBy=one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    deletionStrategy=OF_KUBERNETES,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=WHOLE,
    preRunningDeadlineSeconds={**WHOLE, "minimum": 1},
    shutdownAfterJobFinishes=YES_NO,
    suspend=YES_NO,
)


def kind_of(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return fields(
        "apiVersion kind metadata spec",
        apiVersion=one_of("ray.io/v1"),
        kind=one_of(name),
        metadata=OF_KUBERNETES,
        spec=spec,
    )


KINDS = {"RayCluster": kind_of("RayCluster", CLUSTER_SPEC), "RayJob": kind_of("RayJob", JOB_SPEC)}
