"""The folder that TensorFlow Serving runs a model from."""
