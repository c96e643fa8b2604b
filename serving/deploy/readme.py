"""The README of a deployment's folder."""

from __future__ import annotations

from string import Template

from serving.deploy.config import DeployConfig
from serving.deploy.files import METRICS_PATH

_TEXT = Template("""# $name on TensorFlow Serving

Written by `lengthwise deploy` for `$image`. The files in `config/` were
built as the server's own messages; nothing here was started.

| file | what it is |
|---|---|
| `config/models.config` | the model, its versions and labels; read again every $config_poll s |
| `config/monitoring.config` | metrics for Prometheus at `$metrics` on port $rest_port |
$batching_row| `compose.yaml` | the server on one machine, with Docker Compose |
| `kubernetes/` | the server in a cluster |
| `deployment.json` | the settings these files were made from |

## On one machine

    docker compose up -d --wait
    curl -s http://127.0.0.1:$rest_port/v1/models/$name

The model's folder is mounted from `$model_dir`. Its files must be readable by user $user. A
version pushed there is served within seconds: it is loaded and warmed up, and then the old one is
let go.

Running `lengthwise deploy` again writes over these files. The server that runs reads new versions
and labels from `config/models.config`; everything else takes
`docker compose up -d --wait --force-recreate`.

The server speaks clear text and knows no callers, and so is reached from this machine only. Put a
proxy with TLS and authentication in front of it before you open it.

    lengthwise score examples.tfrecord --host 127.0.0.1:$grpc_port --model $name
    lengthwise loadtest examples.tfrecord --host 127.0.0.1:$grpc_port --model $name --rate 100

## In Kubernetes

    kubectl apply -f kubernetes/
    kubectl rollout status deployment/$name

The PersistentVolumeClaim `$claim` must exist, be readable from several nodes where pods run on
several, and hold the model in a folder `$name/` with one numbered folder a version. Call
`$name:$rest_port` for REST; for gRPC give clients `dns:///$name-headless:$grpc_port`, so that they
share their calls among the pods: one connection to `$name:$grpc_port` stays with one pod.

A change of versions or labels goes into `kubernetes/configmap.yaml` by running `lengthwise deploy`
again; the server reads it within a minute or two of `kubectl apply`. Of what else is in `config/`
it learns by `kubectl rollout restart deployment/$name`.

## Versions, labels, going back

`models.config` serves $policy. To go back, serve an earlier version by its number (`lengthwise
deploy … --set versions.specific=[N]`), or delete the folder of the bad one: under a policy of the
latest, the server then loads the one before.

A label such as `stable` is refused for a version that is not loaded yet, and at the start none
is: with labels the server runs with `--allow_version_labels_for_unavailable_models=true`. A label
that is in use can still only move to a version that is loaded: serve both, wait until
`/v1/models/$name` says AVAILABLE, then move it.

## Flags that are not the server's defaults

| flag | here | why |
|---|---|---|
| `--load_retry_interval_micros` | $retry_micros | by default a failed load waits 60 s |
| `--max_num_load_retries` | $retries | more tries, since the pause is short |
| `--file_system_poll_wait_seconds` | $poll | how soon a push is seen |
| `--rest_api_timeout_in_ms` | $rest_timeout | gRPC callers bring a deadline, REST has none |
| `--grpc_channel_arguments` | $max_message MiB | bounds a request; its own bound is 2 GiB |
| `--tensorflow_*_op_parallelism` | $cpus | by default the machine's, not the container's |

""")

_BATCHING_ROW = (
    "| `config/batching.config` | how requests are merged; one of more than {} rows is refused |\n"
)


def readme(config: DeployConfig, model_dir: str) -> str:
    """Writes how to run a deployment; ``model_dir`` is the model's folder on the host."""
    flags, batching = config.flags, config.batching
    return (
        _TEXT.substitute(
            name=config.name,
            image=config.image,
            model_dir=model_dir,
            user=1000,
            claim=config.claim,
            policy=_policy(config),
            metrics=METRICS_PATH,
            grpc_port=config.grpc_port,
            rest_port=config.rest_port,
            cpus=config.resources.cpus,
            config_poll=flags.model_config_poll_wait_seconds,
            retry_micros=flags.load_retry_interval_micros,
            retries=flags.max_num_load_retries,
            poll=flags.file_system_poll_wait_seconds,
            rest_timeout=flags.rest_api_timeout_ms,
            max_message=flags.max_message_mib,
            batching_row=_BATCHING_ROW.format(batching.max_batch_size) if batching.enabled else "",
        ).rstrip()
        + "\n"
    )


def _policy(config: DeployConfig) -> str:
    if config.versions.all:
        return "every version"
    if config.versions.specific:
        return "version " + ", ".join(str(one) for one in sorted(config.versions.specific))
    count = config.versions.latest
    return "the newest version" if count == 1 else f"the newest {count} versions"
