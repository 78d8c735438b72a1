import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fcnseg.engine.graph import PLAIN, GraphForm, write_graph
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.precision import measure_ranges, quantize, with_headroom
from fcnseg.engine.runtimes.pytorch import lower_trunk
from fcnseg.errors import EngineError
from fcnseg.models import FCN, Head, NetworkSpec, Stream
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import find_recipe
from fcnseg.weights.loading import load_weights
from tests.conftest import make_tiny

RNG = np.random.default_rng(0)


def random_network(seed: int = 0, backbone: str = "vgg16", stride: int = 8, **options: object) -> FCN:
    """Narrow, with random scores and biases: nothing is zero that a wrong factor could hide in."""
    torch.manual_seed(seed)
    spec = NetworkSpec(backbone, stride, (Head(5),), width=0.07, fc_width=8, geometry="same")
    network = FCN(NetworkSpec(**{**vars(spec), **options})).eval().requires_grad_(False)  # type: ignore[arg-type]
    for parameter in network.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.3)
    return network


def rescale(network: FCN, exponent: int) -> None:
    """Give the network the weights of `with_headroom`."""
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    state = {name: torch.from_numpy(array) for name, array in with_headroom(weights, network.spec, exponent).items()}
    network.load_state_dict(state, assign=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_trunk_is_lowered_and_the_scores_are_not(dtype: torch.dtype) -> None:
    network = random_network(skip_scales={"pool4": 0.01, "pool3": 0.0001})
    lower_trunk(network, dtype)
    types = {name: parameter.dtype for name, parameter in network.named_parameters()}
    exact = {name for name in types if name.startswith(("score_", "upscore", "scale_"))}
    assert {name for name, found in types.items() if found == torch.float32} == exact
    assert all(types[name] == dtype for name in set(types) - exact)
    assert {name.partition(".")[0] for name in exact} >= {"score_fr", "score_pool3", "upscore8", "scale_pool4"}


@pytest.mark.parametrize("exponent", [3, 5])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 16, "heads": (Head(5, "_a"), Head(3, "_b"))},
        {"stride": 32, "streams": (Stream(3, "color"), Stream(3, "hha"))},
        {"skip_scales": {"pool4": 0.01, "pool3": 0.0001}, "streams": (Stream(4, first_layer="conv1_1_bgrd"),)},
    ],
    ids=["8s", "two heads", "two streams", "scaled skips"],
)
def test_rescaling_by_powers_of_two_changes_no_score(exponent: int, seed: int, options: dict[str, object]) -> None:
    network = random_network(seed, **options)
    images = [torch.randn(2, s.channels, 75, 94) * 100 for s in network.spec.streams]
    before = network(*images)
    features = network.trunk(network.spec.streams[0], images[0])
    rescale(network, exponent)
    assert all(torch.equal(a, b) for a, b in zip(before, network(*images), strict=True))
    smaller = network.trunk(network.spec.streams[0], images[0])
    assert all(torch.equal(features[tap], smaller[tap] * 2**exponent) for tap in network.spec.skips)
    assert torch.equal(features["fr"], smaller["fr"])


def test_rescaling_does_not_write_into_the_old_numbers() -> None:
    network = random_network()
    held = {name: (parameter.data, parameter.clone()) for name, parameter in network.named_parameters()}
    rescale(network, 3)
    assert all(torch.equal(now, then) for now, then in held.values())


def test_rescaling_keeps_float16_finite() -> None:
    torch.manual_seed(0)
    network = FCN(NetworkSpec("vgg16", 8, (Head(5),), width=0.07, fc_width=8, geometry="same")).requires_grad_(False)
    for name, module in network.eval().named_children():
        if name.startswith("score_"):
            torch.nn.init.normal_(module.weight, std=1e-3)  # type: ignore[arg-type]
    network.get_parameter("conv1_1.weight").mul_(1000)  # later layers keep the magnitude: they are drawn so
    network.get_parameter("fc6.weight").mul_(1e-3)
    image = torch.randn(1, 3, 40, 40) * 100
    expected = network(image)[0]
    largest = max(float(tap.max()) for tap in network.trunk(network.spec.streams[0], image).values())
    lowered = copy.deepcopy(network)
    lower_trunk(lowered, torch.float16)
    rescale(network, 6)
    lower_trunk(network, torch.float16)
    assert largest > 65_504
    assert not torch.isfinite(lowered(image)[0]).all()
    assert torch.allclose(network(image)[0], expected, atol=float(expected.abs().max()) * 0.02)


@pytest.mark.parametrize("options", [{"backbone": "alexnet"}, {"backbone": "googlenet"}, {"batch_norm": True}])
def test_a_trunk_that_normalises_cannot_be_rescaled(options: dict[str, object]) -> None:
    network = random_network(stride=32, **options)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="cannot be rescaled"):
        rescale(network, 3)


# ---------------------------------------------------------------------- int8


class Exported:
    """A tiny model as a graph, with the ranges that its images reach."""

    def __init__(self, folder: Path, form: GraphForm = PLAIN, **options: object) -> None:
        model = make_tiny(folder, **options)  # type: ignore[arg-type]
        self.recipe = model.recipe
        recipe = find_recipe(model.recipe)
        self.weights = load_weights(recipe, model.weights).tensors
        write_graph(folder / "graph.onnx", recipe, self.weights, form=form)
        self.model = onnx.load(folder / "graph.onnx")
        self.image = {m: RNG.integers(0, 256, (1, 60, 80, 3), np.uint8) for m in recipe.modalities}
        self.ranges = measure_ranges(self.model, [self.image])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    return Exported(tmp_path_factory.mktemp("color"))


def test_ranges_are_those_of_the_network(exported: Exported) -> None:
    """Held against torch's own network, whose layers are watched."""
    recipe = find_recipe(exported.recipe)
    network = LabelNetwork(load_weights(recipe, exported.recipe.with_suffix(".safetensors")).network(), recipe).eval()
    seen: dict[str, float] = {}
    for name, module in network.network.named_children():
        module.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: float(x[0].abs().max())}))  # type: ignore[misc]
    network.scores(torch.from_numpy(exported.image["color"]))
    assert exported.ranges == pytest.approx({name: seen[name] for name in exported.ranges}, rel=1e-4)
    assert set(seen) - set(exported.ranges) == {name for name in seen if name.startswith(("score_", "upscore"))}


def labels_of(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = session_of(model.SerializeToString())
    return session.run(["labels"], inputs)[0]


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def test_int8_labels_stay_close(exported: Exported) -> None:
    before = exported.model.SerializeToString()
    int8 = quantize(exported.model, exported.ranges)
    onnx.checker.check_model(int8, full_check=True)
    assert (labels_of(int8, exported.image) == labels_of(exported.model, exported.image)).mean() > 0.9
    assert exported.model.SerializeToString() == before


def test_int8_is_symmetric_with_a_scale_for_each_output_channel(exported: Exported) -> None:
    int8 = quantize(exported.model, exported.ranges)
    numbers = {i.name: onnx.numpy_helper.to_array(i) for i in int8.graph.initializer}
    assert numbers["int8_zero"] == 0
    assert not any(zero.any() for name, zero in numbers.items() if name.endswith("_zero"))
    weights = {name.removesuffix("_int8"): w for name, w in numbers.items() if name.endswith(".weight_int8")}
    assert {name.split(".")[0] for name in weights} == set(exported.ranges)
    for name, values in weights.items():
        scales = numbers[f"{name}_scale"]
        assert values.dtype == np.int8
        assert scales.shape == values.shape[:1]
        assert np.abs(values).max() == 127
        assert np.abs(values * scales[:, None, None, None] - exported.weights[name]).max() <= scales.max() * 0.501
        assert name not in numbers  # the float weights are gone
    assert {"score_fr.weight", "upscore8.weight"} <= set(numbers)


def test_all_readers_of_a_map_read_it_from_int8(exported: Exported) -> None:
    """Skips too: in float besides, libraries would compute pool3 and pool4 twice."""
    int8 = quantize(exported.model, exported.ranges)
    layers = {node.name: node for node in convolutions(int8)}
    for skip, layer in (("score_pool3", "conv4_1"), ("score_pool4", "conv5_1")):
        assert layers[skip].input[0] == layers[layer].input[0]
        assert layers[skip].input[1].endswith(".weight")  # the layer itself stays float
    readers = Counter(name for node in int8.graph.node for name in node.input)
    assert all(readers[node.input[0]] == 1 for node in int8.graph.node if node.op_type == "QuantizeLinear")


@pytest.mark.parametrize("form", [PLAIN, GraphForm()])
def test_margins_may_be_left_out_of_int8_too(tmp_path: Path, form: GraphForm) -> None:
    exported = Exported(tmp_path, geometry="caffe", form=form)
    assert ("conv1_1:window" in exported.ranges) == form.skip_margins
    int8 = quantize(exported.model, exported.ranges)
    assert (labels_of(int8, exported.image) == labels_of(exported.model, exported.image)).mean() > 0.9


def test_only_the_named_layers_are_quantised(exported: Exported) -> None:
    int8 = quantize(exported.model, {"conv2_1": exported.ranges["conv2_1"]})
    quantised = [node.input[1] for node in convolutions(int8) if node.input[1].endswith("_float")]
    assert quantised == ["conv2_1.weight_float"]
    assert [node.op_type for node in int8.graph.node].count("QuantizeLinear") == 1


def test_two_trunks_keep_their_own_ranges(tmp_path: Path) -> None:
    twins = Exported(tmp_path, streams="hha", stride=32, geometry="same")
    int8 = quantize(twins.model, twins.ranges)
    numbers = {i.name: onnx.numpy_helper.to_array(i) for i in int8.graph.initializer}
    pairs = {node.output[0]: node for node in int8.graph.node if node.op_type == "DequantizeLinear"}
    scales = [float(numbers[pairs[n.input[0]].input[1]]) for n in convolutions(int8) if n.input[0] in pairs]
    assert {"conv1_1color", "conv1_1hha", "fc7hha"} <= set(twins.ranges)
    assert scales == pytest.approx([largest / 127 for largest in twins.ranges.values()])
    assert (labels_of(int8, twins.image) == labels_of(twins.model, twins.image)).mean() > 0.9


def test_layers_that_share_their_input_share_its_quantisation() -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["x", "a.weight"], ["y"], "a"),
        onnx.helper.make_node("Conv", ["x", "b.weight"], ["z"], "b"),
    ]
    values = {name: onnx.helper.make_tensor_value_info(name, 1, [1, 2, 4, 4]) for name in "xyz"}
    weights = [
        onnx.numpy_helper.from_array(RNG.normal(size=(2, 2, 1, 1)).astype("f4"), f"{layer}.weight") for layer in "ab"
    ]
    graph = onnx.helper.make_graph(nodes, "branches", [values["x"]], [values["y"], values["z"]], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    int8 = quantize(model, {"b": 2.0, "a": 2.0})
    onnx.checker.check_model(int8, full_check=True)  # nodes are in the order of their use
    assert [node.op_type for node in int8.graph.node].count("QuantizeLinear") == 1
    assert len({node.input[0] for node in convolutions(int8)}) == 1


@pytest.mark.parametrize("layer", ["conv9_9", "score_fr", "upscore8"])
def test_layers_that_cannot_be_quantised(exported: Exported, layer: str) -> None:
    with pytest.raises(EngineError, match=f"'{layer}' is no trunk convolution"):
        quantize(exported.model, {layer: 1.0})


@pytest.mark.parametrize("largest", [0.0, -1.0, float("nan"), float("inf")])
def test_ranges_that_say_nothing(exported: Exported, largest: float) -> None:
    with pytest.raises(EngineError, match=r"input of conv2_1 has the range .*; calibrate"):
        quantize(exported.model, {"conv2_1": largest})


def test_only_a_float32_export_is_quantised(exported: Exported) -> None:
    half = onnx.ModelProto.FromString(exported.model.SerializeToString())
    for number in half.graph.initializer:
        if number.name == "conv2_1.weight":
            number.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(number).astype(np.float16), number.name)
            )
    with pytest.raises(EngineError, match="quantise a float32 export"):
        quantize(half, {"conv2_1": 1.0})
