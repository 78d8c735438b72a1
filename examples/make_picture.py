"""Draw `docs/street.png`: example scenes above the bundled model's label maps, in the model's colours.

Run from the project's root: `python examples/make_picture.py`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import fcnseg
from fcnseg.io.overlays import overlay

SCENES = ("scene_0000", "scene_0002", "scene_0005")
SIZE = (320, 240)


def main() -> None:
    """Segment the scenes and save the picture."""
    folder = Path(__file__).parent
    picture = Image.new("RGB", (SIZE[0] * len(SCENES), SIZE[1] * 2))
    with fcnseg.load() as segmenter:
        for column, name in enumerate(SCENES):
            path = folder / "street" / "images" / f"{name}.jpg"
            labels = segmenter(path).labels["labels"]
            blank = np.zeros((*labels.shape, 3), np.uint8)
            colored = Image.fromarray(overlay(blank, labels, segmenter.info.heads["labels"], opacity=1))
            picture.paste(Image.open(path).resize(SIZE, Image.Resampling.LANCZOS), (column * SIZE[0], 0))
            picture.paste(colored.resize(SIZE, Image.Resampling.NEAREST), (column * SIZE[0], SIZE[1]))
    picture.quantize(128).save(folder.parent / "docs" / "street.png", optimize=True)


if __name__ == "__main__":
    main()
