"""Data sets: their shape, their bytes, their manifest, and the order in which they are read.

Import-light: pyarrow, scipy, cryptography and Pillow are imported by the functions that use
them, since ranks import this room as well.
"""
