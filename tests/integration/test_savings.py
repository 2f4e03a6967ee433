"""What a finding says a fix saves is what a file loses when the fix is applied to it.

Every file is written by torch, onnx or safetensors, the thing is taken out with their means, and the
rest is written again under the same name.
"""

from __future__ import annotations

import copy
import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch.utils.serialization import config

import sizeforensics as sf
from fixtures.yolov5 import public_names

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
RNG = np.random.default_rng(0)
W = RNG.standard_normal((20, 30)).astype("f4")
V = RNG.standard_normal((30, 7)).astype("f4")
T = torch.from_numpy(RNG.standard_normal((300, 40)).astype("f4"))
OTHER = torch.from_numpy(RNG.standard_normal(1100).astype("f4"))

legacy = partial(torch.save, _use_new_zipfile_serialization=False)


def measured(tmp_path, save, before, after, name):
    """Bytes that go from one folder to the other, and the findings of the first."""
    sizes = []
    for folder, value in (("before", before), ("after", after)):
        (tmp_path / folder).mkdir()
        save(value, str(tmp_path / folder / name))
        sizes.append(sum(path.stat().st_size for path in (tmp_path / folder).iterdir()))
    inspection = sf.inspect(tmp_path / "before" / name)
    assert sum(finding.bytes for finding in inspection.findings) <= inspection.bytes
    snapshot = tmp_path / "before.json"
    inspection.save_snapshot(snapshot)
    assert sf.inspect(snapshot).findings == tuple(
        finding._replace(code=known.code)
        for finding, known in zip(inspection.findings, sf.inspect(snapshot).findings, strict=True)
    )
    for finding in inspection.waste:
        assert sum(part.nbytes for part in finding.parts) == finding.nbytes == sum(finding.roles)
    return sizes[0] - sizes[1], {finding.finding: finding.bytes for finding in inspection.findings}


def net():
    model = torch.nn.Sequential(
        torch.nn.Linear(37, 61), torch.nn.BatchNorm1d(61), torch.nn.Linear(61, 5)
    )
    model(torch.randn(8, 37))
    return model


def trained():
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(8, 37)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


def without(value, *keys):
    return {key: item for key, item in value.items() if key not in keys}


def with_average():
    return {"model": net(), "ema": net()}


@pytest.mark.parametrize(
    ("cause", "whole", "key"),
    [("optimizer-state", trained, "optimizer"), ("ema-copy", with_average, "ema")],
)
def test_an_entry_of_a_checkpoint(tmp_path, cause, whole, key):
    checkpoint = whole()
    lost, found = measured(tmp_path, torch.save, checkpoint, without(checkpoint, key), "last.pt")
    assert found == {cause: lost}


def test_an_entry_of_a_legacy_checkpoint(tmp_path):
    """Keys are addresses of storages, so that those of two runs may differ by a digit each."""
    checkpoint = trained()
    lost, found = measured(tmp_path, legacy, checkpoint, without(checkpoint, "optimizer"), "last.pt")
    assert found.keys() == {"optimizer-state"}
    assert abs(found["optimizer-state"] - lost) < 2 * len(checkpoint["model"])


def test_an_entry_between_others(tmp_path):
    checkpoint = {**without(trained(), "epoch"), "date": "today"}
    lost, found = measured(tmp_path, torch.save, checkpoint, without(checkpoint, "optimizer"), "last.pt")
    assert found == {"optimizer-state": lost}


def test_elements_in_the_pickle_are_counted_once(tmp_path):
    checkpoint = trained()
    moments = checkpoint["optimizer"]["state"].values()
    for state in moments:
        state["exp_avg"], state["exp_avg_sq"] = (state[key].numpy() for key in ("exp_avg", "exp_avg_sq"))
    save = partial(torch.save, pickle_protocol=4)
    lost, found = measured(tmp_path, save, checkpoint, without(checkpoint, "optimizer"), "last.pt")
    # The frame of the pickle is split elsewhere, and padding makes up for it.
    assert abs(found["optimizer-state"] - lost) < 128


def test_a_view_that_is_cloned(tmp_path):
    lost, found = measured(tmp_path, torch.save, {"a": T[:100], "b": OTHER},
                           {"a": T[:100].clone(), "b": OTHER}, "view.pt")  # fmt: skip
    assert found == {"storage-slack": lost}


HALVES = {"a": T.half().float(), "b": OTHER.half().float(), "c": OTHER[:777].half().float() + 1}


@pytest.mark.parametrize(("save", "name"), [(torch.save, "m.pt"), (save_file, "m.safetensors")])
def test_a_narrower_type(tmp_path, save, name):
    halves = {key: value.clone() for key, value in HALVES.items()}
    halves["c"] = halves["c"].half().float()
    narrow = {key: value.half() for key, value in halves.items()}
    lost, found = measured(tmp_path, save, halves, narrow, name)
    assert found == {"dtype": lost}


def test_a_copy_that_is_tied_in_a_checkpoint(tmp_path):
    """The description of the copy in the pickle is counted as it stands: all else is exact."""
    copied, tied = {"a": T, "b": T.clone(), "c": OTHER}, {"a": T, "b": T, "c": OTHER}
    lost, found = measured(tmp_path, torch.save, copied, tied, "copy.pt")
    pickles = []
    for folder in ("before", "after"):
        with zipfile.ZipFile(tmp_path / folder / "copy.pt") as archive:
            pickles.append(archive.getinfo("copy/data.pkl").file_size)
    shorter = pickles[0] - pickles[1]
    assert 0 < shorter < 64
    # The pickle is shorter, and padding makes up for that or takes 64 bytes less.
    assert lost - found["duplicate"] in (0, 64)


def test_a_copy_that_is_deleted_from_safetensors(tmp_path):
    copied = {"a": T, "b": T.clone(), "c": OTHER}
    lost, found = measured(tmp_path, save_file, copied, without(copied, "b"), "copy.safetensors")
    assert found == {"duplicate": lost}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_records_of_an_archive(tmp_path):
    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(20, 30)

        def forward(self, x):
            return self.inner(x) + 1

    out = io.BytesIO()
    torch.jit.save(torch.jit.script(Line()), out)

    def write(keep, path):
        with zipfile.ZipFile(out) as archive:
            writer = torch._C.PyTorchFileWriter(path)
            for name in archive.namelist():
                record = name.partition("/")[2]
                if keep(record) and not record.startswith(".") and record not in ("version", "byteorder"):
                    writer.write_record(record, archive.read(name), archive.getinfo(name).file_size)
            writer.write_end_of_file()

    lost, found = measured(
        tmp_path, write, lambda _: True, lambda name: not name.endswith(".debug_pkl"), "m.ts"
    )
    assert found == {"debug-info": lost}


# ONNX


def model(initializers, nodes, outputs=("z",)):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [4, 20])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs], initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def nodes():
    return [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="first"),
        helper.make_node("MatMul", ["y", "v"], ["z"], name="second"),
    ]


def weights():
    return [numpy_helper.from_array(W, "w"), numpy_helper.from_array(V, "v")]


def drop(name, changed):
    kept = [tensor for tensor in changed.graph.initializer if tensor.name != name]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(kept)


def fixed(tmp_path, before, fix, *, external=False):
    after = copy.deepcopy(before)
    fix(after)
    options = {"save_as_external_data": True, "location": "m.data", "size_threshold": 100}
    save = partial(onnx.save, **(options if external else {}))
    return measured(tmp_path, save, before, after, "m.onnx")


@pytest.mark.parametrize("external", [False, True])
def test_an_initializer_that_nothing_reads(tmp_path, external):
    dead = numpy_helper.from_array(RNG.standard_normal(500).astype("f4"), "dead")
    lost, found = fixed(
        tmp_path, model([*weights(), dead], nodes()), partial(drop, "dead"), external=external
    )
    assert found == {"unreferenced": lost}


@pytest.mark.parametrize("external", [False, True])
def test_an_initializer_that_is_another_one(tmp_path, external):
    twice = model(
        [*weights(), numpy_helper.from_array(V, "u")],
        [*nodes(), helper.make_node("MatMul", ["y", "u"], ["q"])], ("z", "q"),
    )  # fmt: skip

    def share(changed):
        drop("u", changed)
        changed.graph.node[2].input[1] = "v"

    lost, found = fixed(tmp_path, twice, share, external=external)
    assert found == {"duplicate": lost}


def test_a_constant_that_is_another_one(tmp_path):
    constants = [
        helper.make_node("Constant", [], [name], name=f"c{name}", value=numpy_helper.from_array(V))
        for name in "vu"
    ]
    twice = model(
        weights()[:1], [*constants, *nodes(), helper.make_node("MatMul", ["y", "u"], ["q"])], ("z", "q")
    )

    def share(changed):
        del changed.graph.node[1]
        changed.graph.node[3].input[1] = "v"

    lost, found = fixed(tmp_path, twice, share)
    assert found == {"duplicate": lost}


def test_weights_of_both_branches(tmp_path):
    def branch(name):
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", name], [f"o{name}"])], f"g{name}", [],
            [helper.make_tensor_value_info(f"o{name}", 1, None)], [numpy_helper.from_array(W, name)],
        )  # fmt: skip

    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch("s"), else_branch=branch("t"))
    condition = numpy_helper.from_array(np.array(True), "c")

    def hoist(changed):
        del changed.graph.node[0].attribute[1].g.initializer[:]

    lost, found = fixed(tmp_path, model([condition], [choice]), hoist)
    assert found == {"duplicate": lost}


def test_strings_of_documentation(tmp_path):
    told = model(weights(), nodes())
    told.doc_string, told.graph.doc_string = "d" * 200, "e" * 3
    told.graph.initializer[0].doc_string = "t" * 130
    for times, node in enumerate(told.graph.node):
        node.doc_string = "traced at " * (3 + 20 * times)
        node.attribute.append(helper.make_attribute("a", 3, "doc" * 50))

    def strip(changed):
        graph = changed.graph
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        for message in (changed, graph, *graph.node, *graph.initializer, *attributes):
            message.ClearField("doc_string")

    lost, found = fixed(tmp_path, told, strip)
    assert found == {"debug-info": lost}


def test_inferred_shapes(tmp_path):
    inferred = onnx.shape_inference.infer_shapes(model(weights(), nodes()))
    lost, found = fixed(tmp_path, inferred, lambda changed: changed.graph.ClearField("value_info"))
    assert found == {"value-info": lost}


def test_typed_fields(tmp_path):
    codes = RNG.integers(-120, 120, (40, 50)).astype(np.int8)
    halves = RNG.standard_normal((30, 9)).astype("f2")
    typed = [
        helper.make_tensor("q", TensorProto.INT8, codes.shape, codes.flatten().tolist()),
        helper.make_tensor("h", TensorProto.FLOAT16, halves.shape, halves.flatten()),
    ]
    reads = [helper.make_node("Identity", [name], [f"{name}1"]) for name in "qh"]

    def to_raw(changed):
        for tensor in changed.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))

    lost, found = fixed(tmp_path, model([*weights(), *typed], [*nodes(), *reads], ("z", "q1", "h1")), to_raw)
    assert found == {"encoding": lost}


def test_initializers_of_a_narrower_type(tmp_path):
    half, small = W.astype("f2"), np.arange(200)
    wide = [numpy_helper.from_array(half.astype("f4"), "w"), numpy_helper.from_array(small, "i")]

    def narrow(changed):
        changed.graph.initializer[1].CopyFrom(numpy_helper.from_array(half, "w"))
        changed.graph.initializer[2].CopyFrom(numpy_helper.from_array(small.astype("u1"), "i"))

    read = helper.make_node("Identity", ["i"], ["j"])
    lost, found = fixed(tmp_path, model([weights()[1], *wide], [*nodes(), read], ("z", "j")), narrow)
    assert found == {"dtype": lost}


def test_a_checkpoint_of_training_without_what_training_left(tmp_path):
    with public_names():
        checkpoint = torch.load(MODELS / "yolov5-micro-train.pt", weights_only=False)
        less = without(checkpoint, "optimizer", "ema")
        lost, found = measured(tmp_path, torch.save, checkpoint, less, "yolov5-micro-train.pt")
    assert found.keys() == {"optimizer-state", "ema-copy"}
    assert sum(found.values()) == lost


def test_the_savings_of_the_models_here_stay_within_them():
    for path in sorted(MODELS.iterdir()):
        if path.suffix != ".data":
            inspection = sf.inspect(path)
            assert sum(finding.bytes for finding in inspection.findings) <= inspection.bytes


def test_padding_that_two_fixes_would_save(tmp_path):
    """One fix saves each record a page and the other two; both together save two, not three."""
    halves = [T.flatten()[at : at + 3080].half().float() for at in range(0, 9240, 3080)]
    wide = {str(at): half.clone()[:2500] for at, half in enumerate(halves)}
    narrow = {key: value.half() for key, value in wide.items()}
    usual = config.save.storage_alignment
    config.save.storage_alignment = 4096
    try:
        lost, found = measured(tmp_path, torch.save, wide, narrow, "m.pt")
    finally:
        config.save.storage_alignment = usual
    assert found.keys() == {"storage-slack", "dtype"}
    assert found["storage-slack"] > 4096
    assert sum(found.values()) == lost
