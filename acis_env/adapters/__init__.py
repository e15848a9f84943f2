"""Environments for other libraries: one module per library, imported by its own name."""
