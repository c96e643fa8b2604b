"""The files of a deployment: TensorFlow Serving's own, Docker Compose and Kubernetes.

Those of TensorFlow Serving are built as its own messages and written as text; the manifests are
built as data and written as YAML, so that neither can be ill-formed.
"""

from __future__ import annotations

from typing import Any

import yaml
from google.protobuf import text_format

from serving.deploy.config import DeployConfig
from serving.protocol import messages

CONFIG_DIR = "/config"
MODELS_DIR = "/models"
METRICS_PATH = "/monitoring/prometheus/metrics"
MODELS_CONFIG = "models.config"
BATCHING_CONFIG = "batching.config"
MONITORING_CONFIG = "monitoring.config"
USER = 1000


def server_files(config: DeployConfig) -> dict[str, str]:
    """Returns the text of each file that the server reads, by name."""
    files = {MODELS_CONFIG: models_config(config), MONITORING_CONFIG: monitoring_config()}
    if config.batching.enabled:
        files[BATCHING_CONFIG] = batching_config(config)
    return {name: text_format.MessageToString(message) for name, message in files.items()}


def models_config(config: DeployConfig) -> Any:
    """Builds the ``ModelServerConfig``: name, place, versions and labels of the model."""
    message = messages.ModelServerConfig()
    model = message.model_config_list.config.add(
        name=config.name,
        base_path=f"{MODELS_DIR}/{config.name}",
        model_platform="tensorflow",
        version_labels=dict(sorted(config.labels.items())),
    )
    policy = model.model_version_policy
    if config.versions.all:
        policy.all.SetInParent()
    elif config.versions.specific:
        policy.specific.versions.extend(sorted(set(config.versions.specific)))
    else:
        policy.latest.num_versions = config.versions.latest
    return message


def batching_config(config: DeployConfig) -> Any:
    """Builds the ``BatchingParameters``.

    Histories of different lengths are padded to the longest of a batch: every list comes with
    its length, so the padding is not read.
    """
    batching = config.batching
    message = messages.BatchingParameters(
        allowed_batch_sizes=batching.sizes, pad_variable_length_inputs=True
    )
    message.max_batch_size.value = batching.max_batch_size
    message.batch_timeout_micros.value = batching.batch_timeout_micros
    message.max_enqueued_batches.value = batching.max_enqueued_batches
    message.num_batch_threads.value = config.resources.cpus
    return message


def monitoring_config() -> Any:
    """Builds the ``MonitoringConfig``: metrics for Prometheus on the REST port."""
    message = messages.MonitoringConfig()
    message.prometheus_config.enable = True
    message.prometheus_config.path = METRICS_PATH
    return message


def flags(config: DeployConfig) -> list[str]:
    """Returns the command line of the server, without its name."""
    tuned, cpus = config.flags, config.resources.cpus
    values: dict[str, Any] = {
        "port": config.grpc_port,
        "rest_api_port": config.rest_port,
        "rest_api_timeout_in_ms": tuned.rest_api_timeout_ms,
        "grpc_channel_arguments": (
            f"grpc.max_receive_message_length={tuned.max_message_mib * 1024 * 1024}"
        ),
        "model_config_file": f"{CONFIG_DIR}/{MODELS_CONFIG}",
        "model_config_file_poll_wait_seconds": tuned.model_config_poll_wait_seconds,
        "file_system_poll_wait_seconds": tuned.file_system_poll_wait_seconds,
        "load_retry_interval_micros": tuned.load_retry_interval_micros,
        "max_num_load_retries": tuned.max_num_load_retries,
        "monitoring_config_file": f"{CONFIG_DIR}/{MONITORING_CONFIG}",
        "enable_model_warmup": "true",
        "tensorflow_intra_op_parallelism": cpus,
        "tensorflow_inter_op_parallelism": cpus,
    }
    if config.batching.enabled:
        values["enable_batching"] = "true"
        values["batching_parameters_file"] = f"{CONFIG_DIR}/{BATCHING_CONFIG}"
    if config.labels:
        # At the start no version is loaded yet, and a label on one would be refused.
        values["allow_version_labels_for_unavailable_models"] = "true"
    return [f"--{name}={value}" for name, value in values.items()]


def compose(config: DeployConfig, model_dir: str) -> dict[str, Any]:
    """Builds the Docker Compose file; ``model_dir`` is the model's folder on the host."""
    # The image has bash, and neither curl nor wget.
    probe = (
        f"exec 3<>/dev/tcp/127.0.0.1/{config.rest_port}; "
        f"printf 'GET /v1/models/{config.name} HTTP/1.0\\r\\n\\r\\n' >&3; "
        "head -n 1 <&3 | grep -q ' 200 '"
    )
    return {
        "name": config.name,
        "services": {
            "serving": {
                "image": config.image,
                # The image's own entry point adds the flags of a single model.
                "entrypoint": ["tensorflow_model_server"],
                "command": flags(config),
                # Of this machine only: the server knows no callers.
                "ports": [
                    f"127.0.0.1:{port}:{port}" for port in (config.grpc_port, config.rest_port)
                ],
                "volumes": [
                    _mount("./config", CONFIG_DIR),
                    # A dollar sign would be taken for a variable.
                    _mount(model_dir.replace("$", "$$"), f"{MODELS_DIR}/{config.name}"),
                ],
                "user": f"{USER}:{USER}",
                "read_only": True,
                "tmpfs": ["/tmp"],
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                "restart": "unless-stopped",
                "stop_grace_period": "30s",
                "healthcheck": {
                    "test": ["CMD", "bash", "-c", probe],
                    "interval": "10s",
                    "timeout": "3s",
                    "retries": 3,
                    "start_period": "120s",
                },
                "deploy": {
                    "resources": {
                        "limits": {
                            "cpus": str(config.resources.cpus),
                            "memory": f"{_mebibytes(config)}M",
                        }
                    }
                },
            }
        },
    }


def kubernetes(config: DeployConfig) -> dict[str, dict[str, Any]]:
    """Builds the Kubernetes manifests by file name."""
    labels = {"app.kubernetes.io/name": config.name, "app.kubernetes.io/component": "model-server"}
    ports = [
        {"name": name, "port": port, "targetPort": name}
        for name, port in (("grpc", config.grpc_port), ("rest", config.rest_port))
    ]

    def manifest(kind: str, api: str, name: str, **content: Any) -> dict[str, Any]:
        head = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}}
        return {**head, **content}

    selector = {"selector": labels, "ports": ports}
    manifests = {
        "configmap.yaml": manifest(
            "ConfigMap", "v1", f"{config.name}-config", data=server_files(config)
        ),
        "deployment.yaml": manifest(
            "Deployment", "apps/v1", config.name, spec=_deployment(config, labels)
        ),
        "service.yaml": manifest("Service", "v1", config.name, spec=selector),
        # One connection of gRPC stays with one pod; a client that sees all of them takes turns.
        "service-headless.yaml": manifest(
            "Service", "v1", f"{config.name}-headless", spec={"clusterIP": "None", **selector}
        ),
    }
    if config.resources.replicas > 1:
        manifests["disruption-budget.yaml"] = manifest(
            "PodDisruptionBudget",
            "policy/v1",
            config.name,
            spec={"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        )
    return manifests


def to_yaml(content: dict[str, Any]) -> str:
    """Writes a manifest, its keys in the order given and text of several lines as a block."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes files within a file as they look, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _deployment(config: DeployConfig, labels: dict[str, str]) -> dict[str, Any]:
    resources = {"cpu": str(config.resources.cpus), "memory": f"{_mebibytes(config)}Mi"}
    status = {"httpGet": {"path": f"/v1/models/{config.name}", "port": "rest"}}
    container = {
        "name": "model-server",
        "image": config.image,
        "command": ["tensorflow_model_server"],
        "args": flags(config),
        "ports": [
            {"name": "grpc", "containerPort": config.grpc_port},
            {"name": "rest", "containerPort": config.rest_port},
        ],
        # Loading and warming may take minutes, and is no reason for a restart.
        "startupProbe": {**status, "periodSeconds": 5, "failureThreshold": 120},
        "readinessProbe": {**status, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 20},
        # Calls go on to arrive until every node has heard that the pod is leaving.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
            {
                "name": "models",
                "mountPath": f"{MODELS_DIR}/{config.name}",
                "subPath": config.name,
                "readOnly": True,
            },
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "replicas": config.resources.replicas,
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(config.rest_port),
                    "prometheus.io/path": METRICS_PATH,
                },
            },
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 30,
                # The image is built for this kind of processor only.
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "fsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [
                    {"name": "config", "configMap": {"name": f"{config.name}-config"}},
                    {
                        "name": "models",
                        "persistentVolumeClaim": {"claimName": config.claim, "readOnly": True},
                    },
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        },
    }


def _mount(source: str, target: str) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": source,
        "target": target,
        "read_only": True,
        # A folder that is missing is an error, not an empty one made by root.
        "bind": {"create_host_path": False},
    }


def _mebibytes(config: DeployConfig) -> int:
    return round(config.resources.memory_gib * 1024)
