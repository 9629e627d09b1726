"""Mending a person's own pictures: files of any kind in, the same kind out, with all that they say besides pixels."""
