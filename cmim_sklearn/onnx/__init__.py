"""ONNX export of fitted encoders; `register` lets skl2onnx convert pipelines with encoders."""

from cmim_sklearn.onnx._register import register

__all__ = ["register"]
