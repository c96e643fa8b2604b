"""Raw logs in, length-annotated TFRecord examples out."""
