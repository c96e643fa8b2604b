"""TFX components of Lengthwise, a folder each."""
