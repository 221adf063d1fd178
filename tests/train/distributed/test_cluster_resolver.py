"""Checks that the workers are read from flags and environment variables, and that faults raise user errors."""

import json

import pytest
import tensorflow as tf

from fer.errors import UserError
from fer.train.distributed import cluster_resolver
from fer.train.distributed.cluster_resolver import Cluster

TWO = ("a:1111", "b:2222")


def tf_config(index: object = 0, kind: str = "worker", **jobs) -> dict[str, str]:
    """Returns TF_CONFIG of one task."""
    jobs = jobs or {"worker": list(TWO)}
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})}


def slurm(**changes: str) -> dict[str, str]:
    """Returns the variables that srun sets for task 2 of 4 on two nodes."""
    variables = {
        "SLURM_STEP_NODELIST": "queue1-dy-p4d-[1-2]",
        "SLURM_JOB_NODELIST": "queue1-dy-p4d-[1-3]",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_NTASKS": "6",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_PROCID": "2",
        "SLURMD_NODENAME": "queue1-dy-p4d-2",
    }
    return {name: value for name, value in {**variables, **changes}.items() if value}


def find(environment, tmp_path="/nowhere", **flags):
    return cluster_resolver.find_cluster(environment, resource_config=f"{tmp_path}/resourceconfig.json", **flags)


def test_find_cluster_returns_none_when_nothing_is_set():
    assert find({"PATH": "/bin"}) is None
    assert find({"SLURM_JOB_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}) is None  # as in a batch script


def test_flags_take_precedence_over_environment_variables():
    found = find({**tf_config(), **slurm()}, workers="x:1, y:2", worker_index=1)
    assert found == Cluster(("x:1", "y:2"), 1)
    assert not found.chief
    assert found.name == "worker 1 of 2 (y:2)"


def test_tf_config_determines_workers_and_index():
    assert find(tf_config(1)) == Cluster(TWO, 1)
    assert find(tf_config(0)).chief
    with_chief = {"chief": ["c:1"], "worker": ["w:1", "w:2"]}
    assert find(tf_config(0, "chief", **with_chief)) == Cluster(("c:1", "w:1", "w:2"), 0)
    assert find(tf_config(1, **with_chief)) == Cluster(("c:1", "w:1", "w:2"), 2)
    assert find({"TF_CONFIG": "{}"}) is None


@pytest.mark.parametrize("from_file", [True, False])
def test_sagemaker_hosts_are_sorted_on_every_host(tmp_path, from_file):
    hosts = ["algo-2", "algo-1"]
    if from_file:
        (tmp_path / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-2", "hosts": hosts}))
        environment = {}
    else:
        environment = {"SM_HOSTS": json.dumps(hosts), "SM_CURRENT_HOST": "algo-2"}
    assert find(environment, tmp_path, port=7000) == Cluster(("algo-1:7000", "algo-2:7000"), 1)


def test_slurm_tasks_are_distributed_over_nodes_of_their_step():
    expected = ("queue1-dy-p4d-1:8470", "queue1-dy-p4d-1:8471", "queue1-dy-p4d-2:8470", "queue1-dy-p4d-2:8471")
    assert find(slurm()) == Cluster(expected, 2)
    assert find(slurm(SLURM_STEP_TASKS_PER_NODE="")) == Cluster(expected, 2)
    uneven = slurm(SLURM_STEP_TASKS_PER_NODE="3,1", SLURM_PROCID="3")
    assert find(uneven, port=100).workers[3] == "queue1-dy-p4d-2:100"


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("n1", ["n1"]),
        ("n1,m2", ["n1", "m2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[008-011]", ["n008", "n009", "n010", "n011"]),
        ("n[1,3-4,07],login", ["n1", "n3", "n4", "n07", "login"]),
        ("r[1-2]n[1-2].x", ["r1n1.x", "r1n2.x", "r2n1.x", "r2n2.x"]),
    ],
)
def test_expand_node_list_expands_ranges(nodes, hosts):
    assert cluster_resolver.expand_node_list(nodes) == hosts


@pytest.mark.parametrize("nodes", ["n[9-10]", "node[1-2]-ib"])
def test_slurm_hosts_are_in_order_of_tasks_unlike_those_of_tensorflow(nodes, monkeypatch):
    """If this fails, TensorFlow's resolver may do: see fer.train.distributed.cluster_resolver."""
    environment = slurm(SLURM_STEP_NODELIST=nodes, SLURM_STEP_NUM_TASKS="2", SLURM_STEP_TASKS_PER_NODE="1(x2)")
    environment |= {"SLURM_PROCID": "0", "SLURMD_NODENAME": ""}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=8470, gpus_per_node=1, gpus_per_task=1, auto_set_gpu=False
        )
        theirs = resolver.cluster_spec().as_dict()["worker"]
    except ValueError:
        theirs = []
    first, second = cluster_resolver.expand_node_list(nodes)
    assert list(find(environment).workers) == [f"{first}:8470", f"{second}:8470"] != theirs


@pytest.mark.parametrize(
    ("environment", "flags", "message"),
    [
        ({}, {"workers": "a:1,b:2"}, "--workers needs --worker_index too"),
        ({}, {"worker_index": 0}, "--worker_index needs --workers too"),
        ({}, {"workers": "a:1,b:2", "worker_index": 2}, "--worker_index is 2, but --workers names 2 .* 0 to 1"),
        ({}, {"workers": "a:1,b:2", "worker_index": -1}, "--worker_index is -1"),
        ({}, {"workers": "a:1,b", "worker_index": 0}, "--workers: 'b' is not of the form host:port"),
        ({}, {"workers": "a:1,:2", "worker_index": 0}, "':2' is not of the form host:port"),
        ({}, {"workers": "a:1,b:70000", "worker_index": 0}, "'b:70000' .* a port from 1 to 65535"),
        ({}, {"workers": "a:1,a:1", "worker_index": 0}, "--workers names a:1 twice"),
        ({"TF_CONFIG": "{"}, {}, "TF_CONFIG is not of the form"),
        ({"TF_CONFIG": "[]"}, {}, "TF_CONFIG is not of the form"),
        (tf_config(None), {}, "TF_CONFIG is not of the form"),
        (tf_config(5), {}, "its task's index is 5, but it names 2 workers"),
        (tf_config(-1, chief=["c:1"], worker=["w:1"]), {}, "its task's index is -1, but it names 1 workers"),
        (tf_config(1, "chief", chief=["c:1"], worker=["w:1"]), {}, "its task's index is 1, but it names 1 chiefs"),
        (tf_config(0, ps=["p:1"], worker=["w:1"]), {}, "names the job 'ps'"),
        (tf_config(0, "evaluator"), {}, "names the job 'evaluator'"),
        (tf_config(0, worker=["host"]), {}, "'host' is not of the form host:port"),
        ({"SM_HOSTS": "algo-1"}, {}, "SageMaker's environment names no hosts"),
        ({"SM_HOSTS": '["algo-1"]'}, {}, "SageMaker's environment names no hosts"),
        ({"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "me"}, {}, "the current host, 'me', is not among them"),
        (slurm(SLURM_PROCID=""), {}, "lacks SLURM_PROCID; start the workers with srun"),
        (slurm(SLURM_PROCID="4"), {}, "SLURM_PROCID is 4, but Slurm's list of nodes names 4 workers"),
        (slurm(SLURM_PROCID="x"), {}, "SLURM_PROCID is 'x', which is not a number"),
        (slurm(SLURM_STEP_NUM_TASKS="5"), {}, r"5 tasks, but 2\(x2\) on 2 nodes"),
        (slurm(SLURM_STEP_TASKS_PER_NODE="2x2"), {}, "^SLURM_STEP_TASKS_PER_NODE is '2x2', which is not of"),
        (slurm(SLURMD_NODENAME="queue1-dy-p4d-1"), {}, "Task 2 runs on queue1-dy-p4d-1, .* --distribution=block"),
        (slurm(SLURM_STEP_NODELIST="n[1-2"), {}, r"'n\[1-2' is not a host or a range"),
        (slurm(SLURM_STEP_NODELIST="n[2-1]"), {}, "'2-1' is not a range of numbers"),
        (slurm(SLURM_STEP_NODELIST="n[1-9999999]"), {}, "'1-9999999' is not a range of numbers"),
        (slurm(SLURM_STEP_TASKS_PER_NODE="2(x9999999)"), {}, "which is not of the form"),
        (slurm(SLURM_PROCID="9" * 5000), {}, "which is not a number"),
        (slurm(SLURM_STEP_NODELIST="n[a]"), {}, "'a' is not a range of numbers"),
    ],
)
def test_find_cluster_raises_user_error_for_invalid_settings(environment, flags, message):
    with pytest.raises(UserError, match=message):
        find(environment, **flags)
