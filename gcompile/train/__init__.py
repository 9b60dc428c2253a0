"""Training gives back what compression took: fine-tuning, distillation, and training quantized.

The graph that is compiled is the graph that is trained: its nodes run in PyTorch, its weights are
the parameters, and what training found is written back into it. So pruned and quantized graphs
train as they are, wherever they came from. This room needs the extra `[train]`, and `import
gcompile` does not load it.
"""

from gcompile.train.batches import Loader
from gcompile.train.cost import Recovery, recovery_of
from gcompile.train.fine_tune import Epoch, FineTuning, Trained, fine_tune
from gcompile.train.graph_module import GraphModule
from gcompile.train.lottery import LotteryTicket, find_ticket

__all__ = [
    "Epoch",
    "FineTuning",
    "GraphModule",
    "Loader",
    "LotteryTicket",
    "Recovery",
    "Trained",
    "find_ticket",
    "fine_tune",
    "recovery_of",
]
