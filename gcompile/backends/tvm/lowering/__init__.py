"""From regions of the graph to Relax: which kernel, in which layout, with which constants."""
