"""From a model to launches: anchors by kernels of ours, all else through TVM's tensor IR."""
