"""The workers of a training, from the environment or from the configuration; no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TF_CONFIG = "TF_CONFIG"
CHIEF = "chief"
WORKER = "worker"

_EXPECTED = (
    'a JSON object is accepted such as {"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}, optionally with one "chief"'
)


class ClusterError(ValueError):
    """A list of workers that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Workers that train one model together.

    Attributes:
        addresses: ``host:port`` of each worker, the chief first.
        index: which of them this process is; 0 is the chief, which checkpoints and exports.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief."""
        return self.index == 0

    def name(self, index: int) -> str:
        """Returns what a message calls a worker."""
        role = ", the chief" if index == 0 else ""
        return f"worker {index} ({self.addresses[index]}{role})"

    @property
    def tf_config(self) -> str:
        """What TensorFlow reads from the environment."""
        return json.dumps(
            {
                "cluster": {WORKER: list(self.addresses)},
                "task": {"type": WORKER, "index": self.index},
            }
        )


def read_cluster(
    workers: Sequence[str] | None, environment: Mapping[str, str], index: int | None = None
) -> Cluster | None:
    """Finds the workers of a training.

    Args:
        workers: addresses of the configuration; ``TF_CONFIG`` goes before them.
        environment: variables of the environment.
        index: which of the workers this process is; not given: that of ``TF_CONFIG``, else 0.

    Returns:
        The workers, or nothing if there is one only.

    Raises:
        ClusterError: they cannot be used.
    """
    text = environment.get(TF_CONFIG, "").strip()
    own = 0
    addresses = tuple(workers or ())
    if text:
        addresses, own = _read_tf_config(text)
    if len(addresses) < 2:
        return None
    index = own if index is None else index
    if not 0 <= index < len(addresses):
        raise ClusterError(f"worker {index}: 0 to {len(addresses) - 1} is accepted")
    return Cluster(addresses=addresses, index=index)


def check_addresses(addresses: Sequence[str]) -> None:
    """Refuses a list of workers that cannot be used.

    Raises:
        ClusterError: it has fewer than two addresses, one twice, or one that is none.
    """
    if len(addresses) < 2:
        raise ClusterError(f"{list(addresses)}: two addresses or more are accepted, or null")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ClusterError(f"{address!r}: host:port is accepted")
    if len(set(addresses)) < len(addresses):
        raise ClusterError(f"{list(addresses)}: each worker needs an address of its own")


def _read_tf_config(text: str) -> tuple[tuple[str, ...], int]:
    """Returns the addresses, the chief first, and which of them this process is."""
    try:
        values: dict[str, Any] = json.loads(text)
        cluster = {str(job): _addresses(hosts) for job, hosts in values["cluster"].items() if hosts}
        task = values.get("task") or {}
        kind, number = str(task.get("type", WORKER)), int(task.get("index", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(f"{TF_CONFIG}: {type(error).__name__}: {error}; {_EXPECTED}") from error
    others = sorted(set(cluster) - {CHIEF, WORKER})
    if others or kind not in (CHIEF, WORKER):
        raise ClusterError(
            f"{TF_CONFIG}: found tasks {others or [kind]}; chief and worker are accepted, since "
            "all of them train and each holds the whole model"
        )
    chiefs, workers = cluster.get(CHIEF, []), cluster.get(WORKER, [])
    if len(chiefs) > 1:
        raise ClusterError(f"{TF_CONFIG}: {len(chiefs)} chiefs; one is accepted")
    addresses = (*chiefs, *workers)
    if len(addresses) > 1:
        try:
            check_addresses(addresses)
        except ClusterError as error:
            raise ClusterError(f"{TF_CONFIG}: {error}") from error
    size = len(chiefs) if kind == CHIEF else len(workers)
    if addresses and not 0 <= number < size:
        raise ClusterError(f"{TF_CONFIG}: task {kind} {number}, but the cluster has {size} of them")
    return addresses, number + (len(chiefs) if kind == WORKER else 0)


def _addresses(hosts: Any) -> list[str]:
    if not isinstance(hosts, list):
        raise TypeError(f"a list of addresses is expected, found {hosts!r}")
    return [str(host) for host in hosts]
