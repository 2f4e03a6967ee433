"""The catalogue of causes: id, plain name, definition, proof, remedy, cost, and what a fix saves.

The ids are a contract with reports, budgets and users' scripts: add one when reality needs one,
never reuse or rename one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why bytes appear in a model file or leave it."""

    id: str
    family: str
    title: str
    counts: str
    """Which bytes are counted under it."""
    proof: str
    remedy: str
    cost: str
    """What it costs to leave it as it is."""
    saves: str = ""
    """Which bytes a finding says that a fix would save; empty where there are no findings of it."""


_FRAMING = (
    "the headers, names, padding and directory entry of a record that goes, shorter lengths around what "
    "gets smaller, and the padding that is another one behind it"
)
_ENTRY = (
    f"The storages, with {_FRAMING}; and the top-level entry of the pickle, key and value, where it holds "
    "nothing else. The pickle is counted as this file spends it: what later entries repeat of the entry's "
    "memo is written there instead, and numbers of the memo and of storages may then have fewer digits."
)
_RAW_DATA = "Write raw_data: onnx.numpy_helper.from_array, or make_tensor(..., raw=True)."
_BINARY = "Convert NumPy arrays to tensors, or save with pickle_protocol=4."

_ROWS = (
    Cause(
        "carried", "", "carried over",
        "Information on both sides: elements x the smaller of the two element sizes, the same "
        "before and after.",
        "Both payloads are read in full and compared under the named transformation.",
        "Nothing to do: this is the model itself.", "None.",
    ),
    Cause(
        "dtype", "dtype", "element type",
        "Elements x (element size after - element size before), one entry per pair of types.",
        "Casting one side gives the other side bit for bit: to floats with round-to-nearest-even, from "
        "floats to integers toward zero, as torch and ONNX cast.",
        "Export in the type the checkpoint was saved in: model.half() before the export, or convert "
        "the ONNX file with onnxconverter-common's float16 converter and keep sensitive operators in "
        "float32.",
        "float16 -> float32 doubles the weights on disk and in memory and adds no information.",
        f"Elements x the difference to the narrowest type that holds every value exactly, with {_FRAMING}. "
        "The names of types and the offsets that are written as text in pickles and beside external data "
        "are counted as they stand; an operator that casts back to the wider type is not.",
    ),
    Cause(
        "quantization-parameters", "dtype", "quantisation parameters",
        "Scales, zero points, observers and fake-quantisation state.",
        "The graph, or the class of the module, says that the tensor scales another.",
        "Prefer per-channel to blocked scales where accuracy allows; drop observers by converting "
        "the model before saving.",
        "Usually below one per cent of the weights they describe.",
    ),
    Cause(
        "duplicate", "duplicates", "further copies of one tensor",
        "Stored bytes of the second and later copies beyond the copies the other side has; a copy "
        "may be identical, cast or transposed.",
        "Both copies are read in full and are equal under the named transformation.",
        "Store the tensor once: keep weights tied when casting, share one initializer, and transpose "
        "in the graph instead of on disk.",
        "Each copy costs its whole size on disk, in memory and in every download.",
        f"What the copy alone takes: its storage, with {_FRAMING}; in ONNX its whole TensorProto or its "
        "Constant node, in safetensors its line of the header. The names by which nodes read it, the "
        "pickle that describes it as a view of the other, and an operator that casts or transposes are "
        "counted as they stand.",
    ),
    Cause(
        "constant", "constants", "data baked into the program",
        "Tensor payload without a source on the other side that the program holds as data: grids, "
        "masks, shape vectors, folded subgraphs.",
        "The format stores it as a constant; where a fill, range or tile makes the same bytes, that "
        "is computed and compared.",
        "Compute it in the graph (Range, Expand, ConstantOfShape), export with dynamic shapes, or "
        "turn constant folding off for the subgraph.",
        "Grows with the traced input size, not with the model.",
    ),
    Cause(
        "densified", "constants", "broadcast content written out",
        "(Elements - stored elements) x element size of content that one side stores once and "
        "broadcasts.",
        "The written-out elements equal the stored ones under the recorded strides.",
        "Keep the small tensor and expand it in the graph.",
        "The size is that of the broadcast shape instead of the stored one.",
    ),
    Cause(
        "sparse-index", "constants", "indices of sparse tensors",
        "Index tensors of COO, CSR and ONNX sparse layouts.",
        "The layout says which tensor holds indices.",
        "Use int32 indices or store the tensor dense when more than about a third is non-zero.",
        "int64 COO indices take 8 bytes per dimension and non-zero element.",
    ),
    Cause(
        "shape", "weights", "more or fewer elements",
        "The elements beyond the smaller count of two tensors matched by name.",
        "Matched by name only; the element counts are what the formats say.",
        "Check which side has the intended vocabulary, class count or width.",
        "The added rows, in full.",
    ),
    Cause(
        "unmatched", "weights", "tensors on one side only",
        "Tensors that nothing on the other side corresponds to and no other cause explains.",
        "The formats list them; no tensor of the other side equals them or shares their name.",
        "Check that both files are the same model; strip what inference does not use.",
        "The tensors, in full.",
    ),
    Cause(
        "folded", "weights", "absorbed into other tensors",
        "Parameters that one side needs and the other has put into another tensor. Of a batch-norm its "
        "scale, mean, variance and counter, while its bias is carried over as the bias of the convolution; "
        "the two factors of a merged low-rank adapter (LoRA), its alpha, and the lengths of DoRA; of a "
        "removed parametrisation all that the weight was computed from but one tensor of its size (the "
        "magnitudes of weight norm, the vectors of spectral norm, the base of an orthogonal map); the mask "
        "of a pruned weight. The weight itself is carried over.",
        "The weight of one side is computed from the tensors of the other and compared in every element, "
        "without looking at names: times gamma / sqrt(variance + eps) for each channel, with the bias "
        "recomputed; plus s x B x A, with s solved from all elements; divided by its norms; as the "
        "exponential, Cayley or Householder map of a parameter; times the mask, bit for bit. Batch-norm "
        "counters that are not stored beside their batch-norm, parametrisations of a user's own, and "
        "adapters of a snapshot are placed by name and said to be inferred.",
        "Where they went away, nothing: a folded model is smaller and faster, and computes the same. Where "
        "they came, fold before saving: merge_and_unload() for adapters of PEFT, remove_parametrizations() "
        "and prune.remove() of torch, and export in evaluation mode for batch-norms. Keep them where "
        "training goes on.",
        "A batch-norm costs four vectors and an operator, an adapter rank x (inputs + outputs) elements "
        "for each weight, weight norm an element for each channel, a mask or an orthogonal base as much "
        "as the weight again.",
    ),
    Cause(
        "optimizer-state", "training", "optimizer state",
        "Moments, master copies, schedulers and gradient scalers.",
        "The top-level key holds tensors shaped like the parameters.",
        "Save model.state_dict() alone for inference, or delete the optimizer key before saving.",
        "One copy of the weights for SGD with momentum, two for Adam, three for AMSGrad.",
        _ENTRY,
    ),
    Cause(
        "ema-copy", "training", "further copy of the network",
        "A second network under another top-level key (ema, model_ema, teacher), whether or not its "
        "values differ.",
        "The key holds a tree of tensors with the names and shapes of the first.",
        "Keep the one you deploy, usually the averaged one, and delete the other.",
        "One whole copy of the weights.",
        _ENTRY,
    ),
    Cause(
        "storage-slack", "dead", "stored but not viewed",
        "Bytes of a storage that no tensor views.",
        "The union of all views, strides included, leaves these bytes out.",
        "Save tensor.clone() instead of a view of a larger tensor.",
        "The whole base tensor is written for a view of any size.",
        f"The bytes that nobody views, with {_FRAMING}, when what is viewed becomes one storage. Views "
        "that do not overlap and are cloned one by one become storages of their own, whose framing is not "
        "taken off; the pickle that describes the views is counted as it stands.",
    ),
    Cause(
        "unreferenced", "dead", "stored but never read",
        "Initializers no node reads, archive records nothing refers to, external data outside every "
        "tensor's range, bytes between records.",
        "No reference to these bytes exists anywhere in the artifact.",
        "Remove unused initializers; delete an external-data file before exporting over it.",
        "These bytes can go without changing the model.",
        f"The whole record or TensorProto and its external data, with {_FRAMING}. Offsets that are written "
        "as text beside external data are counted as they stand.",
    ),
    Cause(
        "graph", "structure", "the program itself",
        "Nodes, attributes, inputs, outputs, functions, opset imports, with their framing.",
        "The format's grammar.",
        "A simplifier can merge nodes, but look at the bytes first: this is rarely the problem.",
        "About 100 bytes per node.",
    ),
    Cause(
        "names", "structure", "identifiers",
        "Tensor, node and edge names and state-dict keys.",
        "The format's grammar.",
        "Shorter module paths give shorter names; most models spend far below one per cent here.",
        "One copy per use in ONNX, one per definition in a pickle.",
    ),
    Cause(
        "code", "structure", "TorchScript source and bytecode",
        "Records under code/, and bytecode of mobile archives.",
        "The archive's layout.",
        "Script instead of trace when one class is instantiated many times: a trace writes one "
        "class per instance.",
        "A few kilobytes per class, compressed.",
    ),
    Cause(
        "pickle", "structure", "pickled Python objects",
        "Classes, attributes, hooks, arguments, histories; the subject is the path from the "
        "checkpoint's root.",
        "Every opcode is attributed to the object it builds.",
        "Save a state dict instead of the module, and keep logs out of the checkpoint.",
        "About 240 bytes per tensor; 9 bytes per float kept in a list.",
    ),
    Cause(
        "metadata", "metadata", "properties and versions",
        "Key/value properties, producers, versions, extra files, safetensors headers.",
        "The format's grammar.",
        "Drop the properties your runtime does not read.",
        "What was put in.",
    ),
    Cause(
        "value-info", "metadata", "inferred shapes",
        "Shapes and types of intermediate values stored in the graph.",
        "The format's grammar.",
        "Save before running shape inference, or clear graph.value_info.",
        "About 42 bytes per value; runtimes infer them again.",
        "The entries, with shorter lengths of the graph and of what is around it.",
    ),
    Cause(
        "debug-info", "metadata", "debugging information",
        "TorchScript .debug_pkl records, doc_string fields, exporter stack traces and scopes.",
        "The format's grammar.",
        "Export without verbose=True; clear doc_string and node metadata; strip .debug_pkl records.",
        "0.6 to 1.8 kB per node; nothing at run time but error messages.",
        f"The fields with their tags, or the whole records, with {_FRAMING}.",
    ),
    Cause(
        "container", "container", "framing",
        "ZIP headers, descriptors and directory; tags and lengths around tensor payload; legacy "
        "framing.",
        "The container's specification.",
        "Fewer, larger tensors; a short file stem for torch.save, which is repeated in every record.",
        "About 200 bytes per tensor in a ZIP checkpoint.",
    ),
    Cause(
        "alignment", "container", "padding",
        "Padding between records or tensors, verified to be padding.",
        "The bytes are the pattern that the writer documents.",
        "Keep the default alignment of 64 bytes unless the runtime maps pages.",
        "On average half the alignment per tensor.",
    ),
    Cause(
        "compression", "container", "deflate",
        "What deflate saved on one side and not on the other.",
        "Declared sizes, verified while inflating.",
        "Weights hardly compress; leave them stored so that they can be mapped.",
        "Loading has to inflate.",
    ),
    Cause(
        "encoding", "container", "typed fields against raw bytes",
        "Cost or gain of typed fields, varints, ASCII or base64 against raw element bytes.",
        "Both encodings are decoded to the same elements.",
        f"ONNX: {_RAW_DATA} Pickles: {_BINARY}",
        "int8 in int32_data takes 1 to 10 bytes per element, float16 in int32_data up to 3; an array "
        "pickled with protocol 2 takes up to twice its bytes.",
        f"What the elements take beyond their own bytes, with {_FRAMING}.",
    ),
    Cause(
        "unexplained", "", "unexplained",
        "Anything else. Always printed.",
        "None: that is what the word means.",
        "Please report it with the output of `sizeforensics map`: it is a defect of this tool.",
        "Unknown.",
    ),
)  # fmt: skip

CAUSES = {cause.id: cause for cause in _ROWS}


def remedy(cause: str, artifact_format: str) -> str:
    """What to do about the bytes of a cause in a file of one format.

    Elements are encoded in ONNX and in pickles, and nothing that helps there helps here.
    """
    if cause == "encoding":
        return _RAW_DATA if artifact_format == "onnx" else _BINARY
    return CAUSES[cause].remedy
