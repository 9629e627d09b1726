"""Codes in use: how well they retrieve, separate and cluster images, and which images are near one."""
