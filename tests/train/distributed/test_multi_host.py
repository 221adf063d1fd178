"""Checks a run on two hosts, one of which loses its network connection during training.

The hosts are network namespaces. The test needs root and iproute2; no packet leaves the namespaces.
"""

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fer.train.distributed import strategy
from tests.train import factories, launch
from tests.train.test_trainer import final_state

pytestmark = pytest.mark.slow

HOSTS = ("10.201.77.1", "10.201.77.2")
STEPS = 60
TIMEOUT_S = 900.0


def ip(*words: str) -> None:
    """Runs the command `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[list[str]]:
    """Creates two connected network namespaces and yields their names."""
    names, links = ([f"fer{os.getpid()}{letter}" for letter in "ab"], [f"fv{os.getpid()}{letter}" for letter in "ab"])
    try:
        for name in names:
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        ip("link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1], "netns", names[1])
        for name, link, host in zip(names, links, HOSTS):
            ip("-n", name, "link", "set", link, "name", "cable")
            ip("-n", name, "addr", "add", f"{host}/24", "dev", "cable")
            for device in ("cable", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> pathlib.Path:
    settings = factories.experiment(max_steps=STEPS, save_every_steps=4, ema_decay=0.9)
    settings.model.name = "compact_s"
    return launch.write_config(tmp_path_factory.mktemp("config"), settings)


def start_workers(
    namespaces: list[str], config: pathlib.Path, data: str, workdir: pathlib.Path
) -> list[subprocess.Popen]:
    """Starts a worker in each namespace; SageMaker's variables list the hosts."""
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}", "--strategy=multi_worker"]
    return [
        launch.start_worker(
            flags,
            {"SM_HOSTS": json.dumps(HOSTS), "SM_CURRENT_HOST": host},
            before=["ip", "netns", "exec", namespace],
        )
        for namespace, host in zip(namespaces, HOSTS)
    ]


def test_workers_end_and_resume_to_same_bits_when_a_host_is_disconnected(
    namespaces, config, synthetic_shards, tmp_path
):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    results = launch.wait_for_exit(start_workers(namespaces, config, synthetic_shards.folder, uninterrupted), TIMEOUT_S)
    assert [code for code, _, _ in results] == [0, 0], results

    workers = start_workers(namespaces, config, synthetic_shards.folder, resumed)
    launch.wait_for_step(workers, resumed, 8, TIMEOUT_S)
    ip("-n", namespaces[1], "link", "set", "cable", "down")
    began = time.monotonic()
    results = launch.wait_for_exit(workers, TIMEOUT_S)
    assert time.monotonic() - began < 3 * strategy.HEARTBEAT_S
    for number, (code, _, errors) in enumerate(results):
        assert (code, "Traceback" in errors) == (75, False), errors
        assert f"Worker {number} of 2 ({HOSTS[number]}:" in errors
        assert "lost the connection to another worker" in errors

    ip("-n", namespaces[1], "link", "set", "cable", "up")
    results = launch.wait_for_exit(start_workers(namespaces, config, synthetic_shards.folder, resumed), TIMEOUT_S)
    assert [code for code, _, _ in results] == [0, 0], results
    assert "Resuming after step" in results[0][1]
    expected, found = final_state(uninterrupted, STEPS), final_state(resumed, STEPS)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
