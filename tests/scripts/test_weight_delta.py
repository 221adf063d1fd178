"""Tests of scripts/weight_delta.py."""

import numpy as np

from fer.models import loading, registry, weights
from tests.evaluation import factories
from tests.scripts import run_script


def test_weight_delta_program_makes_a_delta_and_restores_its_run(tmp_path):
    factories.run(tmp_path / "run")
    spec = registry.backbone_spec("tiny")
    weights.save(spec.build(24, spec.channels).weights, str(tmp_path / "base.npz"))
    made = run_script.run("weight_delta.py", tmp_path, "--workdir=run", "--base=base.npz", "--output=delta")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.splitlines()[-1] == "wrote delta/delta.json"
    restored = run_script.run("weight_delta.py", tmp_path, "--delta=delta", "--base=base.npz", "--output=restored")
    assert (restored.returncode, restored.stderr) == (0, "")
    assert restored.stdout.splitlines()[-1] == "wrote restored/best.json"
    before, after = (loading.open_run(str(tmp_path / name)).model.get_weights() for name in ("run", "restored"))
    for ours, theirs in zip(before, after):
        np.testing.assert_allclose(theirs, ours, atol=1e-6)
