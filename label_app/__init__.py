"""MONAI Label app: proposals for 3D Slicer, and labels into the ledger of a site."""
