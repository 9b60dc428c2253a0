"""Native code through TVM: our kernels for what matters, TVM's generic code for the rest."""
