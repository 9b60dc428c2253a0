"""CUDA C for functions of TVM's tensor IR: one kernel for every block that remains."""
