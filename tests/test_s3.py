"""All programs with all paths in S3: a local server of the S3 protocol, behind a link that is cut."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import signal
import socket
import threading
import time
import urllib.parse

import pytest

from tests.scripts import run_script
from tests.train import launch

DATA, RUNS = "s3://bucket/faces/synthetic", "s3://bucket/runs"
SMALL = [
    "--config=configs/compact.py",
    "--config.model.name=tiny",
    "--config.model.image_size=24",
    "--config.augment.policy=flip",
    "--config.optimizer.warmup_epochs=0",
    "--config.train.precision=float32",
    "--config.train.global_batch_size=16",
    "--config.train.max_steps=40",
    "--config.train.save_every_steps=4",
]


class Link:
    """A local port that forwards to a server, and can be cut and restored. While it is cut, connections are closed.

    The link can also be cut at the first request that contains a name: a program stops there, however fast it is and
    however late the test checks.
    """

    def __init__(self, server: int):
        self.server = server
        self.connected, self.num_refused = True, 0
        self.cut_name: bytes | None = None  # the link is cut at a request that contains this name
        self.open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.connected, self.num_refused, self.cut_name = False, 0, None
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.open = []

    def cut_at(self, name: str) -> None:
        self.cut_name = name.encode()

    def wait_until_refused(self, times: int, process: run_script.Started) -> None:
        """Waits until the cut link has refused `times` requests of a process, which must not end."""
        deadline = time.monotonic() + 300
        while self.connected or self.num_refused < times:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the process sends no more requests"
            time.sleep(0.01)

    def restore(self) -> None:
        self.connected = True

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if not self.connected:
                client.close()
                self.num_refused += 1
                continue
            server = socket.create_connection(("127.0.0.1", self.server))
            self.open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            received = b""
            while piece := source.recv(1 << 16):
                received = received[-256:] + piece  # a name may be split between two pieces
                if self.cut_name is not None and self.cut_name in received:
                    self.cut()
                if not self.connected:  # also for a connection that was opened while the link was cut
                    for each in (source, target):
                        each.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def link(store):
    link = Link(urllib.parse.urlsplit(store["AWS_ENDPOINT_URL"]).port)
    yield link
    link.cut()


@pytest.fixture
def start(root, store, link):
    """Returns a function that starts one of our programs with s3:// behind the link."""
    started = []

    def start_program(name: str, *flags: str, attempts: int = 8) -> run_script.Started:
        endpoint = f"http://127.0.0.1:{link.port}"
        environment = {**store, "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": str(attempts)}
        started.append(run_script.start(name, root, *flags, environment=environment))
        return started[-1]

    yield start_program
    for process in started:
        process.kill()
        process.communicate()


def finish(process: run_script.Started) -> str:
    """Waits for a program, which must succeed. Returns its output."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return output


def make_client(store):
    """Returns a boto3 client that connects to the server directly, not through the link."""
    import boto3  # moto's own requirement

    return boto3.client(
        "s3",
        endpoint_url=store["AWS_ENDPOINT_URL"],
        region_name=store["AWS_REGION"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
    )


def list_keys(store, prefix: str) -> list[str]:
    """Returns the keys in the bucket that begin with a prefix, without the prefix."""
    found = make_client(store).list_objects_v2(Bucket="bucket", Prefix=prefix)
    assert not found["IsTruncated"]
    return sorted(entry["Key"][len(prefix) :] for entry in found.get("Contents", []))


def read_object(store, key: str) -> bytes:
    return make_client(store).get_object(Bucket="bucket", Key=key)["Body"].read()


def newest_checkpoint(store, run: str) -> int:
    """Returns the step of the newest complete checkpoint, or 0 if there is none."""
    found = [key for key in list_keys(store, f"runs/{run}/checkpoints/") if key.endswith("checkpoint.json")]
    return max((int(key.split("/")[0].removeprefix("step-")) for key in found), default=0)


@pytest.fixture(scope="module")
def data(root, store):
    """Converts synthetic faces into the store."""
    flags = ["--input=synthetic:400", f"--output={DATA}"]
    assert f"to {DATA}" in finish(run_script.start("convert.py", root, *flags, environment=store))
    return DATA


@pytest.mark.extended
def test_s3_pipeline_survives_outage(data, store, link, start):
    flags = [*SMALL, f"--data={data}", f"--workdir={RUNS}/a"]
    link.cut_at("runs/a/history.json")  # after the first epoch; training goes on
    process = start("train.py", *flags, attempts=1)
    link.wait_until_refused(1, process)
    assert 0 < newest_checkpoint(store, "a") < 20  # a run that resumes after the epoch needs its entry in the history
    link.restore()
    output = finish(process)
    assert "Uploads to s3://bucket/runs/a fail (The bucket bucket cannot be reached" in output
    assert "Uploads to s3://bucket/runs/a succeed again." in output
    evaluated = finish(start("evaluate.py", f"--workdir={RUNS}/a", f"--data={data}", f"--output={RUNS}/a/eval"))
    assert f"wrote {RUNS}/a/eval/eval.json" in evaluated
    compared = finish(start("compare.py", f"--evals={RUNS}/a/eval/eval.json", "--output=s3://bucket/comparison"))
    assert "wrote s3://bucket/comparison/comparison.json" in compared
    names = list_keys(store, "runs/a/")
    assert {"config.json", "history.json", "history.csv", "curves.png", "best.json", "eval/eval.json"} <= set(names)
    assert {name.split("/")[1] for name in names if "/step-" in name} == {f"step-{step:08d}" for step in (32, 36, 40)}
    assert len([name for name in names if name.startswith("events/")]) == 3
    assert not [name for name in names if ".tmp" in name]
    history = json.loads(read_object(store, "runs/a/history.json"))
    assert [entry["step"] for entry in history] == [20, 40]
    accuracy = json.loads(read_object(store, "runs/a/eval/eval.json"))["accuracy"]
    assert accuracy == json.loads(read_object(store, "runs/a/best.json"))["accuracy"]
    assert json.loads(read_object(store, "comparison/comparison.json"))["runs"][0]["accuracy"] == accuracy


@pytest.mark.extended
def test_s3_run_starts_from_weights_of_run_in_store_and_records_it(data, store, start):
    flags = [*SMALL, f"--data={data}", "--config.train.max_steps=4"]
    finish(start("train.py", *flags, f"--workdir={RUNS}/first"))
    finish(start("train.py", *flags, f"--workdir={RUNS}/second", f"--init_from={RUNS}/first", "--config.seed=1"))
    best, before, after = (
        json.loads(read_object(store, f"runs/{name}.json")) for name in ("first/best", "first/config", "second/config")
    )
    record = after["initialized_from"]
    assert (record["run"], record["step"]) == (f"{RUNS}/first", best["step"])
    assert (record["weights_sha256"], record["config_sha256"]) == (best["sha256"], before["config_sha256"])
    exported = ["--format=tflite", "--precision=float32", "--output=s3://bucket/exports/second"]
    finish(start("export.py", f"--workdir={RUNS}/second", f"--data={data}", *exported))
    assert json.loads(read_object(store, "exports/second/export.json"))["run"]["init_from"] == record


@pytest.mark.extended
def test_s3_run_resumes_after_kill(data, store, link, start):
    flags = [*SMALL, f"--data={data}", f"--workdir={RUNS}/killed"]
    link.cut_at("runs/killed/checkpoints/step-00000040")  # of the last state, which no later one replaces
    process = start("train.py", *flags)
    link.wait_until_refused(1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    link.restore()
    stored = newest_checkpoint(store, "killed")
    assert 0 < stored < 40
    assert f"Resuming after step {stored} of 40 in {RUNS}/killed." in finish(start("train.py", *flags)).splitlines()
    assert newest_checkpoint(store, "killed") == 40
    assert len(list_keys(store, "runs/killed/events/")) == 6  # three of each process


@pytest.mark.extended
def test_s3_run_killed_in_its_first_upload_of_a_checkpoint_starts_again(data, store, link, start):
    flags = [*SMALL, "--config.train.save_every_steps=1000", f"--data={data}", f"--workdir={RUNS}/early"]
    link.cut_at("runs/early/checkpoints/step-00000020/checkpoint.json")  # of the first epoch, uploaded after its state
    process = start("train.py", *flags)
    link.wait_until_refused(1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    link.restore()
    assert "step-00000020/state.index" in list_keys(store, "runs/early/checkpoints/")
    assert newest_checkpoint(store, "early") == 0
    finish(start("train.py", *flags))
    assert newest_checkpoint(store, "early") == 40


@pytest.mark.slow
def test_s3_run_ends_with_75_when_store_stays_away_and_resumes(data, store, link, start, tmp_path):
    flags = [*SMALL, f"--data={data}"]
    link.cut_at("runs/b/checkpoints/step-00000040")  # of the last state, which no later one replaces
    first = start("train.py", *flags, f"--workdir={RUNS}/b", "--storage_timeout=3", attempts=1)
    try:
        _, errors = first.communicate(timeout=300)
    finally:
        link.restore()
    assert first.returncode == 75, errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("train.py: ")]
    assert len(lines) == 1, errors
    assert f"The last state of {RUNS}/b could not be uploaded within 3 s" in lines[0]
    assert "run the same command again" in lines[0]
    stored = newest_checkpoint(store, "b")
    assert 0 < stored < 40
    output = finish(start("train.py", *flags, f"--workdir={RUNS}/b"))
    assert f"Resuming after step {stored} of 40" in output
    finish(start("train.py", *flags, f"--workdir={tmp_path}/never-broken"))
    expected = json.loads((tmp_path / "never-broken" / "history.json").read_text())
    learned = [[entry[name] for name in ("step", "train_loss", "validation_loss")] for entry in expected]
    history = json.loads(read_object(store, "runs/b/history.json"))
    assert [[entry[name] for name in ("step", "train_loss", "validation_loss")] for entry in history] == learned


@pytest.mark.slow
def test_s3_sweep_is_shared_and_resumes_after_kill(data, store, link, start, tmp_path):
    pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")
    flags = [
        *SMALL,
        f"--data={data}",
        f"--output={RUNS}/sweep",
        f"--storage=journal:{tmp_path}/study",
        "--grid=seed=0,1",
        "--ablations=train.label_smoothing=0",
    ]
    first, second = (start("sweep.py", *flags) for _ in range(2))
    while "\n" not in (output := first.output()[0]):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    # "trial 0 of 4, in ...", or trial 1 if the other was faster
    link.cut_at(f"sweep/trial-{int(output.split()[1]):04d}/checkpoints/step-00000040")
    link.wait_until_refused(1, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    link.restore()
    output = finish(second) + finish(start("sweep.py", *flags))
    assert output.count("Resuming after step") == 1
    names = list_keys(store, "runs/sweep/")
    assert {"sweep.json", "sweep.md", "changes.png"} <= set(names)
    assert {f"trial-000{number}/eval.json" for number in range(4)} <= set(names)
    found = json.loads(read_object(store, "runs/sweep/sweep.json"))
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 4
    assert [entry["seeds"] for entry in found["changes"]] == [2, 2]


@pytest.mark.slow
def test_s3_workers_resume_after_kill(data, store, link, start):
    def start_workers() -> list[run_script.Started]:
        flags = [*SMALL, f"--data={data}", f"--workdir={RUNS}/two", "--strategy=multi_worker"]
        ports = launch.find_free_ports(2)
        workers = "--workers=" + ",".join(f"127.0.0.1:{port}" for port in ports)
        return [start("train.py", *flags, workers, f"--worker_index={index}") for index in (0, 1)]

    link.cut_at("runs/two/checkpoints/step-00000040")
    chief, other = start_workers()
    link.wait_until_refused(1, chief)
    for process in (chief, other):
        process.send_signal(signal.SIGKILL)
        process.communicate()
    link.restore()
    stored = newest_checkpoint(store, "two")
    assert 0 < stored < 40
    chief, other = start_workers()
    outputs = [finish(chief), finish(other)]
    assert f"Resuming after step {stored} of 40 in {RUNS}/two." in outputs[0]
    history = json.loads(read_object(store, "runs/two/history.json"))
    assert [entry["step"] for entry in history] == [20, 40]
    evaluated = finish(start("evaluate.py", f"--workdir={RUNS}/two", f"--data={data}", f"--output={RUNS}/two/eval"))
    assert f"wrote {RUNS}/two/eval/eval.json" in evaluated
    names = list_keys(store, "runs/two/")
    assert {name.split("/")[1] for name in names if "/step-" in name} == {f"step-{step:08d}" for step in (32, 36, 40)}
    assert not [name for name in names if ".tmp" in name]


class Denied(http.server.BaseHTTPRequestHandler):
    """A server that denies every request in the form of S3."""

    def _deny(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = (
            b""
            if self.command == "HEAD"
            else b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _deny  # noqa: N815  the library's names

    def log_message(self, *_) -> None:
        """Suppresses the log."""


@pytest.mark.extended
def test_s3_errors_name_bucket_and_reason(root: pathlib.Path, store, tmp_path):
    denying = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denied)
    threading.Thread(target=denying.serve_forever, daemon=True).start()
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as silent:
        closed.bind(("127.0.0.1", 0))  # without listening
        cases = {
            "There is no bucket nobody": ("s3://nobody/runs/a", store["AWS_ENDPOINT_URL"], 1),
            "Access to the bucket bucket is denied": (f"{RUNS}/c", f"http://127.0.0.1:{denying.server_port}", 1),
            "The bucket bucket cannot be reached (": (f"{RUNS}/c", f"http://127.0.0.1:{closed.getsockname()[1]}", 75),
            "The bucket bucket cannot be reached (Read timeout": (
                f"{RUNS}/c",
                f"http://127.0.0.1:{silent.getsockname()[1]}",  # accepts requests and never answers
                75,
            ),
        }
        started = {}
        for message, (workdir, endpoint, _) in cases.items():
            limits = {"AWS_MAX_ATTEMPTS": "1"}
            environment = {**store, **limits, "AWS_ENDPOINT_URL": endpoint}
            flags = [*SMALL[:1], "--data=x", f"--workdir={workdir}"]
            started[message] = run_script.start("train.py", root, *flags, environment=environment)
        for message, process in started.items():
            _, errors = process.communicate(timeout=300)
            assert process.returncode == cases[message][2], errors
            assert errors.startswith(f"train.py: {message}"), errors
            assert len(errors.splitlines()) == 1
    denying.shutdown()
    assert list_keys(store, "runs/c/") == []
