"""Hydra's YAML files; a package, so that they are installed with the code."""
