"""Stands in for NVIDIA's MLIR-TensorRT: enough for the nvtripy frontend to trace and to hand programs over."""
