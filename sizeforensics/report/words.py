"""The words of a report: percentages, ratios, one phrase per cause, one fix per cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sizeforensics.attribution import UNREAD
from sizeforensics.escape import one_line
from sizeforensics.units import counted, format_bytes, plural, signed_bytes

_NAME_LIMIT = 60
"""Characters of a tensor name or path inside a sentence; tables show it whole."""


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole`` with one decimal; never ``0.0 %`` for something, never ``100.0 %`` for
    less than everything."""
    if part == 0 or whole == 0:
        return "0.0 %"
    tenths = (2000 * part + whole) // (2 * whole)
    if tenths == 0:
        return "<0.1 %"
    if tenths >= 1000 and part < whole:
        return ">99.9 %"
    return f"{tenths // 10:,}.{tenths % 10} %"


def ratio(before: int, after: int) -> str:
    """``2.00x``: how many times ``before`` bytes fit into ``after`` bytes; empty without either."""
    if not before:
        return ""
    times = after / before
    if times >= 99.995:
        return f"{times:,.0f}x"
    if 0 < times < 0.095:
        return f"{times:.2g}x"
    return f"{times:.2f}x"


def comparison(before: str, before_bytes: int, after: str, after_bytes: int) -> str:
    """``B is 2.00x A``, or the difference in bytes where the ratio would round to one."""
    times = ratio(before_bytes, after_bytes)
    if times not in ("", "1.00x"):
        return f"{after} is {times} {before}"
    word = "larger" if after_bytes > before_bytes else "smaller"
    difference = format_bytes(abs(after_bytes - before_bytes))
    return f"{after} is {difference} {word} than {before}" + (f" ({times})" if times else "")


# noun counted (empty: the subject is not counted), what happened when bytes came, when they went.
# "were" becomes "was" for one.
_PHRASES: dict[str, tuple[str, str, str]] = {
    "carried": ("", "shared content grew", "shared content shrank"),
    "quantization-parameters": ("quantisation parameter", "were added", "were removed"),
    "duplicate": ("further copy of tensors", "were stored", "are no longer stored"),
    "constant": ("constant", "were baked in", "are no longer stored"),
    "densified": ("broadcast tensor", "were written out in full", "are stored once only"),
    "sparse-index": ("sparse index tensor", "were added", "were removed"),
    "shape": ("tensor", "got more elements", "got fewer elements"),
    "unmatched": ("tensor without counterpart", "were added", "were dropped"),
    "folded": ("tensor", "were unfolded from others", "were folded into others"),
    "optimizer-state": ("entry of optimizer state", "were added", "were dropped"),
    "ema-copy": ("entry of a further network copy", "were added", "were dropped"),
    "storage-slack": ("", "storage no tensor views grew", "storage no tensor views shrank"),
    "unreferenced": ("unreferenced entry", "were added", "were dropped"),
    "graph": ("", "the graph grew", "the graph shrank"),
    "names": ("", "tensor and node names grew", "tensor and node names shrank"),
    "code": ("", "TorchScript code grew", "TorchScript code shrank"),
    "pickle": ("", "pickled Python objects grew", "pickled Python objects shrank"),
    "metadata": ("", "metadata grew", "metadata shrank"),
    "value-info": ("", "stored intermediate shapes grew", "stored intermediate shapes shrank"),
    "debug-info": ("", "debugging information grew", "debugging information shrank"),
    "container": ("", "container framing grew", "container framing shrank"),
    "alignment": ("", "alignment padding grew", "alignment padding shrank"),
    "compression": ("", "compression saves less", "compression saves more"),
    "encoding": ("", "typed encoding costs more", "typed encoding costs less"),
    "unexplained": ("", "unexplained bytes grew", "unexplained bytes shrank"),
}


def phrase(
    cause: str, label: str, *, delta: int, count: int, elements: int, subject: str, net: bool = False
) -> str:
    """What one cause did, in plain words with its count and bytes.

    ``count`` is 0 where both sides have all that it counts. ``subject`` is what most of the bytes
    belong to, or empty; ``net`` whether as much went as to be worth a word. A change of element type
    says its elements instead of bytes: that is the sentence people look for.
    """
    if cause == "dtype":
        change = f"went {label}" if " -> " in label else "changed their element type"
        return f"{counted(elements, 'weight')} {change}"
    if label == UNREAD:
        return f"{counted(count, 'tensor')} cannot be compared because the other side's data were not read ({signed_bytes(delta)})"
    noun, came, went = _PHRASES[cause]
    verb = came if delta > 0 else went
    if noun and count == 1:
        verb = verb.replace("were ", "was ", 1).replace("are ", "is ", 1)
    if noun and not count:
        words = f"{plural(noun)} {'grew' if delta > 0 else 'shrank'}"
    else:
        words = f"{counted(count, noun)} {verb}" if noun else verb
    whose = one_line(subject, _NAME_LIMIT)
    if whose:
        whose = f", {whose}" if count == 1 else f", mostly {whose}"
    return f"{words} ({signed_bytes(delta)}{' net' if net else ''}{whose})"


def joined(parts: Sequence[str]) -> str:
    """``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(([", ".join(parts[:-1])] if parts[:-1] else []) + list(parts[-1:]))


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about bytes that one cause added: shortest useful words, and what it risks.

    ``exact`` is whether the saving is the cause's bytes to the byte; otherwise the replacement
    costs a little and the saving is an upper bound.
    """

    action: str
    risk: str
    exact: bool


_ADVICE = {
    "dtype": Advice("store the weights in the narrower type", "rounding when the model was trained in the wider type", True),
    "duplicate": Advice("store each tensor once", "none: the copies are equal", False),
    "constant": Advice("compute the constants in the graph", "slower start, or operators a runtime lacks", False),
    "densified": Advice("keep the small tensor and expand it", "operators a runtime lacks", False),
    "optimizer-state": Advice("save the weights without optimizer state", "training cannot be resumed", False),
    "ema-copy": Advice("keep only the network you deploy", "the other copy is lost", False),
    "storage-slack": Advice("clone views before saving", "none: no tensor reads these bytes", True),
    "unreferenced": Advice("remove what nothing reads", "none: nothing reads these bytes", False),
    "pickle": Advice("save a state dict without logs and history", "histories and the module class are lost", False),
    "value-info": Advice("clear the stored intermediate shapes", "a viewer has to infer them again", False),
    "debug-info": Advice("strip debugging information", "error messages name no source lines", False),
    "encoding": Advice("store the elements as raw bytes", "none", True),
}  # fmt: skip


_ONNX = 'model = onnx.load("model.onnx")\n{}\nonnx.save(model, "smaller.onnx")'
_TORCH = 'checkpoint = torch.load("model.pt")\n{}\ntorch.save(checkpoint, "smaller.pt")'
_HALF = """\
from onnxconverter_common import float16
model = float16.convert_float_to_float16(onnx.load("model.onnx"), keep_io_types=True)
onnx.save(model, "smaller.onnx")"""
_CODE = {
    ("dtype", "onnx"): _HALF,
    ("dtype", "torch"): "model.half()  # before torch.save, torch.jit.trace or the export",
    ("duplicate", "torch"): "model.head.weight = model.embedding.weight  # before saving",
    ("optimizer-state", "torch"): _TORCH.format('checkpoint["optimizer"] = None'),
    ("ema-copy", "torch"): _TORCH.format('checkpoint["model"] = checkpoint.pop("ema")'),
    ("storage-slack", "torch"): "state = {name: tensor.clone() for name, tensor in state.items()}",
    ("pickle", "torch"): 'torch.save(model.state_dict(), "smaller.pt")',
    ("value-info", "onnx"): _ONNX.format("del model.graph.value_info[:]"),
    ("debug-info", "onnx"): _ONNX.format(
        'for node in model.graph.node:\n    node.ClearField("doc_string")\n    del node.metadata_props[:]'
    ),
    ("debug-info", "torchscript"): "zip -d model.torchscript '*.debug_pkl'",
    ("encoding", "torch"): 'torch.save(torch.load("model.pt"), "smaller.pt", pickle_protocol=4)',
    ("encoding", "onnx"): _ONNX.format(
        "for tensor in model.graph.initializer:\n"
        "    array = onnx.numpy_helper.to_array(tensor)\n"
        "    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))"
    ),
}


def code(cause: str, artifact_format: str) -> str:
    """The command or lines of code that remove the bytes of a cause; empty where none fits all.

    ``artifact_format`` is that of the file to shrink. Imports of onnx and torch are left out.
    """
    family = "onnx" if artifact_format == "onnx" else "torch"
    return _CODE.get((cause, artifact_format)) or _CODE.get((cause, family), "")


_CONFLICTS = {
    frozenset({"dtype", "encoding"}): "both rewrite the same fields, so the savings do not add up",
    frozenset({"duplicate", "ema-copy"}): "what is deleted need not be shared",
    frozenset({"constant", "densified"}): "a tensor that is computed needs no expanding",
    frozenset({"optimizer-state", "pickle"}): "a state dict holds no optimizer, so do one or the other",
    frozenset({"ema-copy", "pickle"}): "a state dict holds one network, so do one or the other",
}


def conflict(cause: str, other: str) -> str:
    """Why the fixes of two causes cannot be combined; empty where they can."""
    return _CONFLICTS.get(frozenset({cause, other}), "")


def advice(cause: str, label: str) -> Advice | None:
    """The short fix for a cause; None where leaving it alone is the advice."""
    known = _ADVICE.get(cause)
    if known and cause == "dtype" and " -> " in label:
        return Advice(f"keep {label.split(' -> ', maxsplit=1)[0]} storage", known.risk, known.exact)
    return known
