"""Generated code: one TensorIR function for each kernel description."""
