"""What a model can be made of: files on disk, each kind read in one module, and Python factories."""
