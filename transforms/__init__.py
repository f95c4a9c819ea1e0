"""MONAI transforms from plain arguments: preprocess, augment, postprocess, labels."""
