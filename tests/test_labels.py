from fcnseg.labels import LabelSpace, voc_color

VOC_FIRST = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
"""The first colours of the PASCAL VOC devkit's published colour map."""


def test_voc_colors_are_the_devkits() -> None:
    assert [voc_color(i) for i in range(7)] == VOC_FIRST
    assert voc_color(15) == (192, 128, 128)  # person
    assert voc_color(255) == (224, 224, 192)  # void


def test_all_voc_colors_differ() -> None:
    assert len({voc_color(i) for i in range(256)}) == 256


def test_palette_has_256_triples_and_begins_with_the_classes() -> None:
    space = LabelSpace(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert len(space.palette) == 768
    assert space.palette[:6] == bytes([1, 2, 3, 4, 5, 6])
    assert space.palette[-3:] == bytes([224, 224, 192])
