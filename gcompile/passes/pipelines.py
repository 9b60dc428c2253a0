"""The pipelines every compilation starts with."""

from __future__ import annotations

from gcompile.passes.base import Pipeline
from gcompile.passes.canonicalize.eliminate_casts import EliminateCasts
from gcompile.passes.canonicalize.eliminate_identity import EliminateIdentity
from gcompile.passes.canonicalize.eliminate_reshapes import EliminateReshapes
from gcompile.passes.canonicalize.eliminate_slices import EliminateSlices
from gcompile.passes.canonicalize.eliminate_transposes import EliminateTransposes
from gcompile.passes.canonicalize.fold_add_into_bias import FoldAddIntoBias
from gcompile.passes.canonicalize.fold_batch_norm import FoldBatchNorm
from gcompile.passes.canonicalize.fold_constants import FoldConstants
from gcompile.passes.canonicalize.fold_pad import FoldPad
from gcompile.passes.canonicalize.fold_scale import FoldScale
from gcompile.passes.canonicalize.gather_stored import GatherStored
from gcompile.passes.canonicalize.group_heads import GroupHeads
from gcompile.passes.canonicalize.inline_constant_if import InlineConstantIf
from gcompile.passes.canonicalize.lower_batch_norm import LowerBatchNorm
from gcompile.passes.canonicalize.lower_dynamic_convolutions import LowerDynamicConvolutions
from gcompile.passes.canonicalize.lower_dynamic_products import LowerDynamicProducts
from gcompile.passes.canonicalize.lower_quantized_products import LowerQuantizedProducts
from gcompile.passes.canonicalize.merge_common_subexpressions import MergeCommonSubexpressions
from gcompile.passes.canonicalize.move_scale import MoveScale
from gcompile.passes.canonicalize.remove_dead_nodes import RemoveDeadNodes
from gcompile.passes.fuse.duplicate_dequantize import DuplicateDequantize
from gcompile.passes.fuse.fuse_regions import FuseRegions

MAX_ROUNDS = 8
"""Two rounds are usual: the second finds nothing left to do."""


def canonicalize_pipeline() -> Pipeline:
    """Bring a model into one plain form: repeated until nothing changes."""
    return Pipeline(
        "canonicalize",
        (
            InlineConstantIf(),
            GatherStored(),
            FoldConstants(),
            EliminateIdentity(),
            EliminateCasts(),
            EliminateReshapes(),
            EliminateSlices(),
            EliminateTransposes(),
            FoldPad(),
            FoldBatchNorm(),
            LowerBatchNorm(),
            LowerQuantizedProducts(),
            LowerDynamicProducts(),
            LowerDynamicConvolutions(),
            MoveScale(),
            GroupHeads(),
            FoldScale(),
            FoldAddIntoBias(),
            MergeCommonSubexpressions(),
            RemoveDeadNodes(),
        ),
        repeat=MAX_ROUNDS,
    )


def fuse_pipeline() -> Pipeline:
    """Group the nodes into regions. Runs last: rewrites after it would cut regions apart."""
    return Pipeline("fuse", (DuplicateDequantize(), FuseRegions()))


def exact_pipeline() -> Pipeline:
    """What "compiled with the exact passes only" means: canonicalize, then fuse.

    Nothing is approximated. Folding constants rounds in another order, as any compiler that
    reorders arithmetic does; no pass here is LOSSY. Relative budgets (`-40%`) are relative to it.
    """
    return Pipeline("exact", (canonicalize_pipeline(), fuse_pipeline()))
