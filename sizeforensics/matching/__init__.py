"""Which tensor became which, and the proof: tiers of falling strength over what is still free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sizeforensics.fingerprints import Advance, fingerprints, silent
from sizeforensics.inventory import Inventory
from sizeforensics.matching import content, detours, names, rounding
from sizeforensics.matching.constants import broadcasts, lookups, tables
from sizeforensics.matching.folding import folds, norms, orthogonal, rescaled
from sizeforensics.matching.names import components
from sizeforensics.matching.narrowing import exact_narrower_type
from sizeforensics.matching.pairing import Copy, Fold, Match, Matching, Pairing, Scale
from sizeforensics.matching.parts import (
    adapters,
    cuts,
    gathered,
    masks,
    named_adapters,
    parametrisations,
    slices,
    sparse,
)
from sizeforensics.matching.quantization import quantized, sampled_scales
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
    groups = content.group_by_content(pairing)
    content.match_in_order(pairing, groups)
    for tier in _tiers(groups, sampled=before.excerpts is not None):
        if not any(pairing.free):
            break
        tier(pairing)
    return pairing.result()


def _tiers(groups: list[content.Group], *, sampled: bool) -> Iterator[Callable[[Pairing], None]]:
    """What is tried on the tensors that are left, the strongest proof first.

    Of ``sampled`` artifacts what digests prove, and what bags and a grid of elements let infer.
    """
    copies = partial(content.place_copies, groups=groups, lone=False)
    yield partial(content.match_permuted, groups=groups)
    if sampled:
        yield detours.match_detours
        yield masks.match_sampled
        yield folds.match_folded
        yield rescaled.match_rescaled
        yield copies
        yield sampled_scales.match_sampled
        yield broadcasts.match_cores
        yield tables.match_tables
        yield gathered.match_same_elements
        yield gathered.match_gathered
        yield gathered.match_beginnings
        yield cuts.match_cuts
    else:
        yield detours.match_detours
        yield masks.match_masked
        yield folds.match_folded
        yield rescaled.match_rescaled
        yield orthogonal.match_orthogonal
        yield norms.match_norms_of_themselves
        yield adapters.match_merged
        yield copies
        yield quantized.match_quantized
        yield broadcasts.match_broadcast
        yield lookups.match_looked_up
        yield sparse.match_sparse
        yield slices.match_slices
    yield rounding.match_rounded
    yield names.match_equal_names
    yield partial(content.match_trivial, groups=groups)
    yield copies
    yield parametrisations.absorb_rest
    yield names.match_inferred
    yield parametrisations.absorb_members
    if sampled:
        yield named_adapters.fold_named
    yield partial(content.place_copies, groups=groups, lone=True)
    yield broadcasts.find_recipes


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
