"""Bytes in and out: images, label maps, archives, lists, HDF5, and files written whole or not at all."""
