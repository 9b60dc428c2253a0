"""Which indices of which axes of a whole model stand or fall together."""

from gcompile.passes.prune.coupling.classes import Classes, Member
from gcompile.passes.prune.coupling.couple import couple
from gcompile.passes.prune.coupling.indices import Indices
from gcompile.passes.prune.coupling.moves import pads_of, slices_of

__all__ = ["Classes", "Indices", "Member", "couple", "pads_of", "slices_of"]
