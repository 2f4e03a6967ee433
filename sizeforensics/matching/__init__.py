"""Which tensor became which, and the proof: tiers of falling strength over what is still free."""

from __future__ import annotations

from sizeforensics.fingerprints import Advance, fingerprints, silent
from sizeforensics.inventory import Inventory
from sizeforensics.matching import (
    adapters,
    broadcasts,
    content,
    folds,
    masks,
    names,
    norms,
    orthogonal,
    parametrisations,
    quantized,
    rounding,
    sampled_scales,
    slices,
    sparse,
)
from sizeforensics.matching.names import components
from sizeforensics.matching.narrowing import exact_narrower_type
from sizeforensics.matching.pairing import Copy, Fold, Match, Matching, Pairing, Scale
from sizeforensics.matching.units import Unit, as_pairs, units_of
from sizeforensics.views import Coverage, cover

__all__ = [
    "Copy", "Fold", "Match", "Matching", "Scale", "components", "exact_narrower_type", "find_copies",
    "match",
]  # fmt: skip


def match(before: Inventory, after: Inventory, advance: Advance = silent) -> Matching:
    """Match the tensors of two artifacts by content, then by name where content differs.

    Either both artifacts have their payload or both are known by excerpts. ``advance`` is called
    with the number of payload bytes read so far by the first pass.
    """
    before, after = as_pairs(before), as_pairs(after)
    coverages = cover(before), cover(after)
    units = (
        _survey(before, coverages[0], 0, advance), _survey(after, coverages[1], 1, advance),
    )  # fmt: skip
    pairing = Pairing((before, after), units, coverages)
    if before.excerpts is not None:
        return _match_excerpts(pairing)
    groups = content.group_by_content(pairing)
    content.match_in_order(pairing, groups)
    content.match_permuted(pairing, groups)
    masks.match_masked(pairing)
    folds.match_folded(pairing)
    orthogonal.match_orthogonal(pairing)
    norms.match_norms_of_themselves(pairing)
    adapters.match_merged(pairing)
    content.place_copies(pairing, groups, lone=False)
    quantized.match_quantized(pairing)
    broadcasts.match_broadcast(pairing)
    sparse.match_sparse(pairing)
    slices.match_slices(pairing)
    rounding.match_rounded(pairing)
    names.match_equal_names(pairing)
    content.match_trivial(pairing, groups)
    content.place_copies(pairing, groups, lone=False)
    parametrisations.absorb_rest(pairing)
    names.match_inferred(pairing)
    content.place_copies(pairing, groups, lone=True)
    broadcasts.find_recipes(pairing)
    return pairing.result()


def _match_excerpts(pairing: Pairing) -> Matching:
    """The tiers that need no payload: what digests prove, what a grid of elements lets infer."""
    groups = content.group_by_content(pairing)
    content.match_in_order(pairing, groups)
    content.match_permuted(pairing, groups)
    folds.match_folded(pairing)
    content.place_copies(pairing, groups, lone=False)
    sampled_scales.match_sampled(pairing)
    broadcasts.match_cores(pairing)
    names.match_equal_names(pairing)
    content.match_trivial(pairing, groups)
    content.place_copies(pairing, groups, lone=False)
    parametrisations.absorb_rest(pairing)
    names.match_inferred(pairing)
    content.place_copies(pairing, groups, lone=True)
    broadcasts.find_recipes(pairing)
    return pairing.result()


def find_copies(inventory: Inventory, units: list[Unit]) -> tuple[Copy, ...]:
    """The tensors of one artifact that hold, cast or permuted, what another one holds already."""
    pairing = Pairing((inventory, inventory), (units, []))
    groups = content.group_by_content(pairing)
    content.match_in_order(pairing, groups)
    content.match_permuted(pairing, groups)
    content.place_copies(pairing, groups, lone=True)
    return pairing.result().copies


def _survey(
    inventory: Inventory, coverage: Coverage, side: int, advance: Advance
) -> list[Unit]:
    return units_of(inventory, coverage, fingerprints(inventory, coverage, advance), side)
