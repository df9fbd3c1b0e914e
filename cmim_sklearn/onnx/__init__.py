"""ONNX export of fitted encoders; `register` teaches skl2onnx to convert pipelines."""

from cmim_sklearn.onnx._register import register

__all__ = ["register"]
