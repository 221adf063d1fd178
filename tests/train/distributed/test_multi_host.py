"""Two hosts: network namespaces with addresses of their own, one of which is cut off in mid-run.

Needs root and iproute2's network namespaces; no packet leaves them.
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
LIMIT = 900.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def spaces() -> Iterator[list[str]]:
    """The names of two namespaces that a cable joins."""
    names, ends = ([f"fer{os.getpid()}{letter}" for letter in "ab"], [f"fv{os.getpid()}{letter}" for letter in "ab"])
    try:
        for name in names:
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for name, end, host in zip(names, ends, HOSTS):
            ip("-n", name, "link", "set", end, "name", "cable")
            ip("-n", name, "addr", "add", f"{host}/24", "dev", "cable")
            for device in ("cable", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> pathlib.Path:
    settings = factories.experiment(steps=STEPS, checkpoint_steps=4, ema_decay=0.9)
    settings.model.name = "compact_s"
    return launch.write_config(tmp_path_factory.mktemp("config"), settings)


def start(spaces: list[str], config: pathlib.Path, data: str, workdir: pathlib.Path) -> list[subprocess.Popen]:
    """A worker in each namespace, told by SageMaker's variables who there is."""
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}", "--strategy=multi_worker"]
    return [
        launch.start_worker(
            flags,
            {"SM_HOSTS": json.dumps(HOSTS), "SM_CURRENT_HOST": host},
            before=["ip", "netns", "exec", space],
        )
        for space, host in zip(spaces, HOSTS)
    ]


def test_a_host_that_is_cut_off_ends_both_in_time_and_the_run_goes_on_to_the_same_bits(
    spaces, config, synthetic_shards, tmp_path
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ended = launch.wait_for_exit(start(spaces, config, synthetic_shards.folder, whole), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended

    started = start(spaces, config, synthetic_shards.folder, cut)
    launch.wait_for_step(started, cut, 8, LIMIT)
    ip("-n", spaces[1], "link", "set", "cable", "down")
    begun = time.monotonic()
    ended = launch.wait_for_exit(started, LIMIT)
    assert time.monotonic() - begun < 3 * strategy.HEARTBEAT_S
    for number, (code, _, errors) in enumerate(ended):
        assert (code, "Traceback" in errors) == (1, False), errors
        assert f"Worker {number} of 2 ({HOSTS[number]}:" in errors
        assert "lost the connection to another worker" in errors

    ip("-n", spaces[1], "link", "set", "cable", "up")
    ended = launch.wait_for_exit(start(spaces, config, synthetic_shards.folder, cut), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "Resuming after step" in ended[0][1]
    expected, found = final_state(whole, STEPS), final_state(cut, STEPS)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
