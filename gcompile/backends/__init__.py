"""Turn a model into something that runs: ONNX Runtime as the reference, TVM as the compiler."""
