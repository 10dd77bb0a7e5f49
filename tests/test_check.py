"""What `check` says of a space, against brute force over all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.formats.registry import find_format, ordered
from hardware.formats.scheme import QuantScheme
from hardware.target import Target
from nas import api
from nas.cost_models import ExactCosts, StructureFeatures
from nas.dry_run import (
    admit,
    check,
    check_reachable,
    exact_bounds,
    ignore,
    measure_corners,
    refuse_precisions,
)
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.experiment.load import load_experiment
from nas.experiment.objectives import parse_constraint
from nas.ledger.storage import StorageError
from nas.run.run_folder import RunFolder, RunFolderError
from nas.search.problem import enumerate_space
from supernets.load import load_data
from supernets.settings import SpaceSettings
from tests import sample_networks

PRECISIONS = ("int4", "int8", "fp32")


@pytest.fixture(scope="module")
def builder() -> CandidateBuilder:
    network, template = sample_networks.vit()
    network.activate({})
    settings = SpaceSettings(
        depth=(1, 3),
        num_heads=(2, 4),
        hidden_dim=(96,),
        precision={"*": ("int8",), "*.fc1": PRECISIONS},
    )
    return CandidateBuilder(network, network.space(settings), template, QuantScheme(), [])


def test_bounds_are_those_of_the_whole_space(builder: CandidateBuilder) -> None:
    everything = enumerate_space(builder.space)
    assert everything is not None
    exact, bounds = ExactCosts(builder), exact_bounds(builder)
    for name, (least, greatest) in bounds.items():
        values = getattr(exact, name)(everything)
        assert (least, greatest) == (values.min(), values.max())


def test_sizes_are_those_of_the_written_files(builder: CandidateBuilder) -> None:
    from nas.evaluation.candidate import Candidate

    genomes = builder.space.sample(12, np.random.default_rng(0))
    sizes = ExactCosts(builder).size_bytes(genomes)
    for genome, size in zip(genomes, sizes, strict=True):
        written = builder.model(Candidate.from_genome(builder.space, genome)).ByteSize()
        assert written == pytest.approx(size, rel=0.01)
    exact = ExactCosts(builder)
    assert np.array_equal(exact.bits_per_weight(genomes), 8 * sizes / exact.parameters(genomes))


def test_features_hold_all_macs_and_weights_of_a_candidate(builder: CandidateBuilder) -> None:
    genomes = builder.space.sample(20, np.random.default_rng(0))
    features = StructureFeatures(builder.space, builder.cost).features(genomes)
    cost, largest = (builder.cost(g) for g in (genomes, builder.space.largest()[None]))
    n = len(PRECISIONS)
    assert features.shape[1] == 2 * n + 1 + n**2, "no other format has a column"
    macs = (features[:, :n].sum(axis=1) + features[:, 2 * n]) * largest.macs
    weights = features[:, n : 2 * n].sum(axis=1) * largest.parameters
    assert np.allclose(macs, cost.macs)
    assert np.allclose(weights, cost.parameters_per_layer.sum(axis=1))
    assert (features[:, 2 * n + 1 :].sum(axis=1) == cost.active.sum(axis=1) - 1).all()


def test_extremes_weigh_what_their_files_do(builder: CandidateBuilder) -> None:
    corners = measure_corners(builder, ordered())
    assert len(corners) == 2 * len(ordered())
    for corner in corners:
        genome = getattr(builder.space, corner.architecture)()
        model = builder.model(builder.uniform(genome, corner.precision))
        assert corner.metrics["size_bytes"] == model.ByteSize()


@pytest.mark.parametrize(
    ("text", "reachable"),
    [
        ("size_bytes <= 1 GB", True),
        ("size_bytes <= 1 kB", False),
        ("size_bytes <= 0.9 * int8", True),
        ("parameters >= 1 G", False),
        ("macs <= int8", True),
        ("accuracy >= 0.99", True),
        ("latency_ms <= 0.5 * fp32", True),
    ],
)
def test_only_what_is_certainly_out_of_reach_is_refused(
    builder: CandidateBuilder, text: str, reachable: bool
) -> None:
    corners = measure_corners(builder, [find_format(name) for name in PRECISIONS])
    bounds = exact_bounds(builder)
    if reachable:
        assert text.split()[0] in check_reachable(parse_constraint(text), bounds, corners)
    else:
        with pytest.raises(ValueError, match="the best the space holds"):
            check_reachable(parse_constraint(text), bounds, corners)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {
                "space": {
                    "depth": [3],
                    "num_heads": [4],
                    "hidden_dim": [64],
                    "precision": {"*": ["int8"]},
                }
            },
            "nothing to search",
        ),
        (
            {"constraints": ["size_bytes <= 0.8 * int8", "size_bytes >= int8"]},
            "contradict each other",
        ),
        ({"constraints": ["parameters >= 1 G"]}, "larger choices"),
        ({"polish": {"token_noise": 0.1}}, "polish.token_noise: 0.1, but only texts have tokens"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(
    experiment_file: Callable[..., Path], sections: dict[str, object], told: str
) -> None:
    experiment = load_experiment(experiment_file(**sections))
    with pytest.raises(ValueError, match=told):
        check(experiment, load_data(experiment.data, experiment.model), None, tell=ignore)


def test_a_precision_the_target_cannot_run_is_refused(builder: CandidateBuilder) -> None:
    refuse_precisions(builder.space, Target())
    with pytest.raises(ValueError, match="int8 cannot run on target cuda"):
        refuse_precisions(builder.space, Target(provider="cuda"))


@pytest.mark.parametrize(("side", "size"), [(8, 1), (8, 2)])
def test_batches_of_one_that_batch_norm_cannot_take_are_refused(
    side: int, size: int, experiment_file: Callable[..., Path]
) -> None:
    resnet = {"image_size": side, "depths": [1] * 4, "stage_widths": [4] * 4}
    tune = {"epochs": 1, "batch_size": size}
    space = {"inner_width": [0.5, 1.0], "dropped_blocks": [0]}
    path = experiment_file(model={"resnet": resnet}, space=space, tune=tune)
    experiment = load_experiment(path)
    data = load_data(experiment.data, experiment.model)
    found: list[object] = []
    if (side, size) == (8, 1):
        with pytest.raises(
            ValueError, match=r"^tune.batch_size: 1, but .* BatchNorm sees one pixel"
        ):
            check(experiment, data, None, tell=found.append)
    else:
        check(experiment, data, None, tell=found.append)
        assert any("space:" in str(line) for line in found)


def test_an_opset_that_is_too_old_is_refused_with_layer_and_operator(tmp_path: Path) -> None:
    text = "name: old\nmodel: {vit: {depth: 1}}\ndata: {name: digits}\nexport: {opset: 13}\n"
    (tmp_path / "x.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "x.yaml")
    data = load_data(experiment.data, experiment.model)
    with pytest.raises(ValueError, match=r"export\.opset: 13 .* LayerNormalization .* 17"):
        check(experiment, data, None, tell=ignore)


def test_runtimes_that_lack_and_impossible_opsets_are_told_before_the_data(
    experiment_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.dry_run.load_data", lambda *_: pytest.fail("data was loaded"))
    broken = tmp_path / "broken" / "onnxruntime"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no libonnx.so.1')")
    verify = [f"onnxruntime@{broken.parent}", "openvino@/no/such/place"]
    for call in (api.check, api.search):
        with pytest.raises(ValueError, match=r"no libonnx\.so\.1\nexport\.verify: openvino@/no"):
            call(experiment_file(export={"verify": verify}), tmp_path / "x")
    resnet = {"image_size": 8, "depths": [1] * 4, "stage_widths": [4] * 4}
    convolutional = experiment_file(model={"resnet": resnet}, export={"opset": 13})
    with pytest.raises(pytest.fail.Exception, match="data was loaded"):
        api.check(convolutional, tmp_path / "x")
    with pytest.raises(ValueError, match=r"^export\.opset: 16 is below what every vit needs.* 17;"):
        api.check(experiment_file(export={"opset": 16}), tmp_path / "x")


def test_a_run_folder_that_cannot_be_written_is_told_before_the_data(
    experiment_file: Callable[..., Path], tmp_path: Path
) -> None:
    experiment = load_experiment(experiment_file(data={"name": "digits"}))
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for place in (tmp_path / "file", tmp_path / "file" / "runs" / "x", tmp_path / "nowhere"):
        with pytest.raises(RunFolderError, match=r"cannot be written .* with --out"):
            admit(experiment, RunFolder(place))
    admit(experiment, RunFolder(tmp_path / "free" / "x"))
    assert not (tmp_path / "free").exists()


def test_a_disk_without_room_for_training_is_told_before_it(
    experiment_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000))
    experiment = load_experiment(experiment_file())
    with pytest.raises(RunFolderError, match=r"training needs [\d,]+ bytes .* 10,000 are free"):
        admit(experiment, RunFolder(tmp_path / "runs" / "x"))


def test_a_ledger_that_cannot_be_opened_is_told_before_the_data(
    experiment_file: Callable[..., Path], tmp_path: Path
) -> None:
    experiment = load_experiment(experiment_file(storage=f"sqlite:///{tmp_path}/none/x.db"))
    with pytest.raises(StorageError, match="the database failed"):
        admit(experiment, RunFolder(tmp_path / "x"))
    plain, folder = load_experiment(experiment_file()), RunFolder(tmp_path / "x")
    folder.path.mkdir()
    folder.journal.write_text('{"op_code": 0}\nno json\n{"op_code": 0}\n')
    with pytest.raises(StorageError, match="damaged"):
        admit(plain, folder)
