"""A Ray cluster: joined or started, and the places on its nodes where workers can be."""

from __future__ import annotations

import logging
import os
from collections.abc import Set
from typing import Any, NamedTuple

import ray

from fcnseg.errors import OutputError, SettingsError
from fcnseg.running.options import RunOptions

UV_SETTING = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"

OBJECT_STORE_BYTES = 100 << 20
"""The memory for Ray's objects in a cluster that is started here: nothing larger than a report passes through it."""


class Slot(NamedTuple):
    """A place for a worker: a node, its name, the number of the GPU there (0 where processors work), and what Ray is to
    reserve for it."""

    node: str
    host: str
    gpu: int
    cpus: float
    gpus: float

    @property
    def needs(self) -> str:
        """The reservation in words."""
        return f"{self.gpus:g} GPU and {self.cpus:g} CPU" if self.gpus else f"all {self.cpus:g} CPU of a node"


def joined(options: RunOptions) -> bool:
    """Join the cluster of the options, the environment or this machine, or start one here; tell whether GPUs are to
    work.

    Raises SettingsError if there is no cluster at the address, or GPUs are asked for and it has none.
    """
    address = options.ray_address or os.environ.get("RAY_ADDRESS") or None
    if address and address.startswith("ray://"):
        raise SettingsError(
            f"{address} is an address of Ray's client; give HOST:6379 from a machine of the cluster, "
            "or use `ray job submit`"
        )
    if UV_SETTING not in os.environ:  # under `uv run` Ray would send the working folder; workers have fcnseg
        ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # Ray read the variable when it was imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here tells nobody of it
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray._private.worker._worker_logs_enabled = False  # standard output is for results: no option keeps raylets off it
    known: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        ray.init(address=address or "auto", **known)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        if address:
            said = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"there is no Ray cluster at {address}: {said}; start one with `ray start --head`, "
                "or leave out --ray-address"
            ) from error
        _start(known)
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    if options.engine.device.startswith("cuda") and not has_gpus:
        raise SettingsError(f"--device {options.engine.device} asks for GPUs, and the cluster has none; leave it out")
    return has_gpus and options.engine.device != "cpu"


def _start(known: dict[str, Any]) -> None:
    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **known)
    except Exception as error:  # whatever a daemon died of
        said = " ".join(str(error).split())[:200]
        raise OutputError(f"Ray does not start on this machine: {said}; leave out --on ray") from error


def slots(on_gpus: bool, closed: Set[Slot] = frozenset()) -> list[Slot]:
    """Return the places for workers on the nodes that live: one for each GPU, or one a node with processors."""
    found = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        cpus, gpus = node["Resources"].get("CPU", 0), int(node["Resources"].get("GPU", 0))
        name, host = node["NodeID"], node["NodeManagerHostname"]
        if on_gpus:
            found += [Slot(name, host, index, cpus // gpus, 1) for index in range(gpus)]
        elif cpus > 0:
            found.append(Slot(name, host, 0, cpus, 0))
    return [slot for slot in found if slot not in closed]


def is_alive(node: str) -> bool:
    """Tell whether the cluster knows of no end of a node."""
    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())
