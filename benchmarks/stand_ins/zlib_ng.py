"""The standard library's zlib, which has the same functions."""

import zlib as zlib_ng

__all__ = ["zlib_ng"]
