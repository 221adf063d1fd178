"""Tests of `fer.models.importers.efficientnet_lite0` on made-up checkpoints in the format of PyTorch before 1.6."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import sys
import types

import numpy as np
import pytest

from fer.errors import UserError
from fer.models import registry
from fer.models.importers import efficientnet_lite0


class FloatStorage:
    """Stands for torch.FloatStorage."""


class Description:
    """Stands for a tensor of PyTorch, which is pickled as a call of `_rebuild_tensor_v2`."""

    def __init__(self, key: str, start: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self._values = (Stored(key), start, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self._values


class Stored:
    """Stands for the storage of a tensor."""

    def __init__(self, key: str):
        self.key = key


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", FloatStorage, obj.key, "cpu", 0, None) if isinstance(obj, Stored) else None


@pytest.fixture(autouse=True)
def _torch(monkeypatch):
    """Puts a module torch in place, under whose names the pickles refer to its classes."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*values):
        raise AssertionError("the importer must not call functions of PyTorch")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    torch.FloatStorage = FloatStorage
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def encode(tensors: dict[str, object], storages: dict[str, np.ndarray]) -> bytes:
    """Encodes a checkpoint."""
    file = io.BytesIO()
    for content in (efficientnet_lite0.MAGIC_NUMBER, efficientnet_lite0.PROTOCOL, {"little_endian": True}):
        pickle.dump(content, file, 2)
    Pickler(file, 2).dump(collections.OrderedDict(tensors))
    pickle.dump(list(storages), file, 2)
    for values in storages.values():
        file.write(struct.pack("<q", values.size) + values.astype("<f4").tobytes())
    return file.getvalue()


def test_read_returns_tensors_of_any_strides(tmp_path):
    tensors = {
        "a": Description("7", 1, (2, 3), (3, 1)),
        "b": Description("7", 0, (3, 2), (1, 3)),
        "c": Description("8", 0, (), ()),
    }
    path = tmp_path / "a.pth"
    path.write_bytes(encode(tensors, {"7": np.arange(8), "8": np.array([5.0])}))
    found = efficientnet_lite0.read(str(path))
    np.testing.assert_array_equal(found["a"], np.arange(1, 7).reshape(2, 3))
    np.testing.assert_array_equal(found["b"], np.arange(6).reshape(2, 3).T)
    assert found["c"] == 5


@pytest.mark.parametrize(
    "description", [("7", 4, (2, 3), (3, 1)), ("7", -1, (2,), (1,)), ("7", 0, (2,), (-1,)), ("9", 0, (2,), (1,))]
)
def test_read_rejects_tensors_beyond_their_storage(tmp_path, description):
    (tmp_path / "a.pth").write_bytes(encode({"a": Description(*description)}, {"7": np.arange(8)}))
    with pytest.raises(UserError, match=r"a\.pth is no checkpoint of PyTorch before 1\.6, or is damaged"):
        efficientnet_lite0.read(str(tmp_path / "a.pth"))


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def test_read_executes_nothing_of_a_pickle(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(encode({"a": Malicious()}, {}))
    with pytest.raises(UserError, match=r"it needs .*builtin.*print"):
        efficientnet_lite0.read(str(tmp_path / "a.pth"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kept", [0, 10, 60, 200])
def test_read_rejects_early_end(tmp_path, kept):
    content = encode({"a": Description("7", 0, (8,), (1,))}, {"7": np.arange(8)})
    (tmp_path / "a.pth").write_bytes(content[:kept])
    with pytest.raises(UserError, match=r"a\.pth is no checkpoint of PyTorch"):
        efficientnet_lite0.read(str(tmp_path / "a.pth"))


def test_load_finds_each_weight_by_its_name(monkeypatch):
    model = registry.backbone_spec("efficientnet_lite0").build(32, 3)
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in model.layers:
        name = layer.name.replace("dwconv", "dw_conv")
        block = name.split("_")[0].removeprefix("block")
        part = {"stem": "", "head": ""}.get(block, f"_blocks.{block}.")
        kind = {
            "expand": ("_expand_conv", "_bn0"),
            "dw": ("_depthwise_conv", "_bn1"),
            "project": ("_project_conv", "_bn2"),
        }
        own = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}.get(block) or kind.get(
            name.split("_")[1]
        )
        for place, weight in enumerate(layer.weights):
            values = rng.uniform(size=weight.shape).astype(np.float32)
            weights = ["weight", "bias", "running_mean", "running_var"]
            theirs = values
            if values.ndim == 4:
                theirs = values.transpose(2, 3, 0, 1) if "dw_" in name else values.transpose(3, 2, 0, 1)
            arrays[f"{part}{own[len(layer.weights) == 4]}.{weights[place]}"] = theirs, layer.name, place, values
    monkeypatch.setattr(efficientnet_lite0, "read", lambda _: {name: each[0] for name, each in arrays.items()})
    efficientnet_lite0.load(model, "a.pth")
    for _, layer, place, values in arrays.values():
        np.testing.assert_array_equal(model.get_layer(layer).get_weights()[place], values)
    arrays.pop("_blocks.3._bn1.running_var")
    with pytest.raises(UserError, match=r"a\.pth is not EfficientNet-Lite0: it has no _blocks\.3\._bn1\.running_var"):
        efficientnet_lite0.load(model, "a.pth")
