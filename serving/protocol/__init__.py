"""Messages of TensorFlow Serving's API and arrays in them, without TensorFlow."""
