"""HHA: depth as three channels that a network for photographs can take (Gupta et al., ECCV 2014)."""

from fcnseg.hha.camera import Camera, find_camera
from fcnseg.hha.encoding import encode

__all__ = ["Camera", "encode", "find_camera"]
