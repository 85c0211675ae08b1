"""What leaves training and answers for a tick: batch, step, ONNX."""
