"""Functions that every other package builds on."""
