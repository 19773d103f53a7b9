"""Export to ONNX and OpenVINO, INT8, and the verification that nothing changed."""
