"""`simqnas bench`: models of any exporter are measured, or refused in one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import cli
from hardware.bench import Bench, bench, render
from hardware.bench_inputs import TYPES, parse_sizes
from hardware.run_watch import RunWatch
from hardware.target import Target, TargetError

Shape = Sequence[int | str | None]


def write_model(
    path: Path,
    inputs: Mapping[str, tuple[int, Shape]],
    nodes: Sequence[onnx.NodeProto] = (),
    weights: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 21,
    ir_version: int = 10,
    external: str | None = None,
) -> Path:
    """A model with these inputs (type, shape); it passes the first one on unless nodes are given.

    external: name of the file beside it for the weights.
    """
    first, (kind, _) = next(iter(inputs.items()))
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", [first], ["y"])],
        "graph",
        [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("custom.domain", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    onnx.save_model(
        model, path, save_as_external_data=external is not None, location=external, size_threshold=0
    )
    return path


def floats(name: str, count: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(count, np.float32), name)


def added(path: Path, a: Shape, b: Shape, kind: int = TensorProto.FLOAT) -> Path:
    """A model that adds its inputs `a` and `b`."""
    node = helper.make_node("Add", ["a", "b"], ["y"])
    return write_model(path, {"a": (kind, a), "b": (kind, b)}, [node])


def measure(path: Path, *options: str, target: Target | None = None) -> Bench:
    rng = np.random.default_rng(0)
    return bench(path, target or Target(), repeats=3, sizes=parse_sizes(options), rng=rng)


def printed(result: Bench) -> str:
    output = io.StringIO()
    Console(width=200, file=output).print(render(result))
    return output.getvalue()


@dataclass(frozen=True)
class Command:
    """`simqnas bench` as a user runs it; what the libraries print is seen too."""

    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        words = ["simqnas", "bench", *map(str, arguments), "--repeats", "3"]
        self.monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert isinstance(left.value.code, int)
        return left.value.code, *self.capfd.readouterr()

    def shows(self, *arguments: object) -> str:
        """What a command that succeeds prints."""
        code, output, errors = self.run(*arguments)
        assert (code, errors) == (0, "")
        return output

    def refuses(self, *arguments: object) -> str:
        """The one line that a refused command prints."""
        code, output, errors = self.run(*arguments)
        assert (code, output) == (2, "")
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


def test_a_model_against_itself_is_not_ranked(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", {"x": (TensorProto.FLOAT, [4])})
    now = iter(np.arange(1000.0))
    watch = RunWatch(lambda: next(now), None, lambda: 0)
    rng = np.random.default_rng(0)
    result = bench(model, Target(), against=model, repeats=20, rng=rng, watch=watch)
    assert result.ratio is not None
    assert result.ratio.value == 1
    assert "cannot be told apart" in printed(result)
    assert "disturbed" not in printed(result)


def test_a_disturbed_figure_is_marked(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", {"x": (TensorProto.FLOAT, [4])})
    now, switches = iter(np.arange(1000.0)), iter(range(1000))
    watch = RunWatch(lambda: next(now), None, lambda: next(switches), sleep=lambda _: None)
    rng = np.random.default_rng(0)
    result = bench(model, Target(), against=model, repeats=3, rng=rng, watch=watch)
    assert printed(result).count("*") >= 4, "two latencies, a ratio, and what the mark means"
    assert "once the machine is idle" in printed(result)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT8, TensorProto.STRING])
def test_inputs_of_many_types_are_generated_by_the_command(
    command: Command, tmp_path: Path, kind: int
) -> None:
    assert "model.onnx" in command.shows(
        write_model(tmp_path / "model.onnx", {"x": (kind, ["batch", 4])})
    )


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_type_that_numpy_holds_is_generated(tmp_path: Path, name: str) -> None:
    names = {"float": "FLOAT", **{f"uint{n}": f"UINT{n}" for n in (8, 16, 32, 64)}}
    word = name.removeprefix("tensor(").removesuffix(")")
    kind = TensorProto.DataType.Value(names.get(word, word.upper()))
    shape: Shape = ["batch", "sequence_length"]
    assert measure(write_model(tmp_path / "model.onnx", {"x": (kind, shape)})).model.size_bytes


def test_a_type_that_numpy_lacks_is_refused(command: Command, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", {"x": (TensorProto.BFLOAT16, [4])})
    assert "input x is a tensor(bfloat16)" in command.refuses(path)


def test_weights_beside_a_model_count_whatever_their_files_are_called(tmp_path: Path) -> None:
    weights = [floats("w", 1000)]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    x = {"x": (TensorProto.FLOAT, [1000])}
    sizes = []
    for name in (None, "model.onnx_data", "w.bin"):
        path = write_model(tmp_path / "model.onnx", x, nodes, weights, external=name)
        sizes.append(measure(path).model.size_bytes)
        expected = path.stat().st_size + (0 if name is None else 4000)
        assert sizes[-1] == expected
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_weights_within_a_branch_count_too(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000])
        tensor = floats(f"w{name}", 1000)
        node = helper.make_node("Add", ["x", tensor.name], [name])
        return helper.make_graph([node], name, [], [value], [tensor])

    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    node = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("one"), else_branch=branch("two")
    )
    x = {"x": (TensorProto.FLOAT, [1000])}
    path = write_model(tmp_path / "model.onnx", x, [node], [flag], external="weights")
    weights_size = (tmp_path / "weights").stat().st_size
    assert measure(path).model.size_bytes == path.stat().st_size + weights_size
    assert weights_size >= 8000


def test_axes_of_any_name_take_sizes(command: Command, tmp_path: Path) -> None:
    path = added(tmp_path / "model.onnx", ["docs", 3], ["words", None])
    assert measure(path, "docs=2", "words=2", "b[1]=3").model.size_bytes > 0
    assert "model.onnx" in command.shows(
        path, "--size", "docs=2", "--size", "words=2", "--size", "b[1]=3"
    )
    line = command.refuses(path, "--size", "docs=2")
    assert "--size 'words=N' --size 'b[1]=N'" in line
    assert "docs=N" not in line


def test_sizes_of_a_target_fill_the_axes_that_exporters_name(
    command: Command, tmp_path: Path
) -> None:
    target = Target(batch_size=2, sequence_length=7, image_size=5)
    names = [("batch", "batch_size"), ("sequence", "sequence_length"), ("height", "width")]
    for number, (a, b) in enumerate(names):
        measure(added(tmp_path / f"{number}.onnx", [a], [b]), target=target)
    assert "give --image-size N" in command.refuses(tmp_path / "2.onnx")


def test_axes_called_after_sums_follow_from_their_terms(tmp_path: Path) -> None:
    """A mask over past and present tokens, as decoders are exported."""
    path = added(tmp_path / "model.onnx", ["past + sequence"], ["total"])
    measure(path, "past=3", "sequence=1", "total=4")
    with pytest.raises(ValueError, match=r"past \+ sequence"):
        measure(path, "total=4")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "a=2", "--size", "b=3"], "(set others with --size 'a=N' --size 'b=N')"),
        (["--size", "a=2", "--size", "b=2", "--size", "c=1"], "open are a, b"),
        (["--size", "a=x"], "whole number"),
        (["--size", "a"], "whole number"),
        (["--size", "a=-1"], "whole number"),
        (["--size", "a=1", "--size", "a=2"], "give it once"),
        (["--size", "a=9000000000000000", "--size", "b=1"], "memory"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    command: Command, tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in command.refuses(
        added(tmp_path / "model.onnx", ["a", 1000], ["b", 1000]), *options
    )


def test_a_model_that_cannot_be_run_on_its_inputs_is_refused(
    command: Command, tmp_path: Path
) -> None:
    node = helper.make_node("Div", ["a", "b"], ["y"])
    integers: tuple[int, Shape] = (TensorProto.INT32, [4])
    other: tuple[int, Shape] = (TensorProto.INT32, ["n"])
    path = write_model(tmp_path / "model.onnx", {"a": integers, "b": other}, [node])
    assert "cannot run it on a [4], b [3]" in command.refuses(path, "--size", "n=3")


def damaged(folder: Path) -> Path:
    path = write_model(folder / "model.onnx", {"x": (TensorProto.FLOAT, [4])})
    path.write_bytes(path.read_bytes()[:-20])
    return path


def test_a_text_model_of_few_positions_names_the_option_for_its_length(
    tmp_path: Path, command: Command
) -> None:
    table = helper.make_node("Add", ["ids", "positions"], ["y"])
    inputs = {"ids": (TensorProto.FLOAT, ["batch_size", "sequence_length"])}
    path = write_model(tmp_path / "m.onnx", inputs, [table], [floats("positions", 32)])
    line = command.refuses(path)
    assert "ids [1, 128] (set others with --batch N --sequence N)" in line
    command.shows(path, "--sequence", "32")


def no_model(folder: Path) -> Path:
    (folder / "model.onnx").write_text("<html>not found</html>")
    return folder / "model.onnx"


def empty(folder: Path) -> Path:
    (folder / "model.onnx").touch()
    return folder / "model.onnx"


def without_weights(folder: Path) -> Path:
    weights = [floats("w", 4)]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    x = {"x": (TensorProto.FLOAT, [4])}
    path = write_model(folder / "model.onnx", x, nodes, weights, external="weights")
    (folder / "weights").unlink()
    return path


def of_a_later_opset(folder: Path) -> Path:
    return write_model(folder / "model.onnx", {"x": (TensorProto.FLOAT, [4])}, opset=999)


def of_a_later_format(folder: Path) -> Path:
    return write_model(folder / "model.onnx", {"x": (TensorProto.FLOAT, [4])}, ir_version=999)


def of_another_domain(folder: Path) -> Path:
    nodes = [helper.make_node("Magic", ["x"], ["y"], domain="custom.domain")]
    return write_model(folder / "model.onnx", {"x": (TensorProto.FLOAT, [4])}, nodes)


@pytest.mark.parametrize(
    "make",
    [damaged, no_model, empty, without_weights, of_a_later_opset, of_a_later_format,
     of_another_domain],
)  # fmt: skip
def test_what_cannot_be_loaded_is_refused(
    command: Command, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    assert "model.onnx: ONNX Runtime cannot load it" in command.refuses(make(tmp_path))


def test_what_is_no_file_is_refused(command: Command, tmp_path: Path) -> None:
    assert "absent.onnx: no such file" in command.refuses(tmp_path / "absent.onnx")
    assert "a folder" in command.refuses(tmp_path)
    model = write_model(tmp_path / "model.onnx", {"x": (TensorProto.FLOAT, [4])})
    assert "absent.onnx: no such file" in command.refuses(
        model, "--against", tmp_path / "absent.onnx"
    )
    with pytest.raises(TargetError, match="onnxruntime-gpu"):
        measure(model, target=Target(provider="cuda"))
