"""The figures of low precision, each measured side by side in one process.

    python benchmarks/low_precision.py linears|resnet50|materialize|vit|bert|last_block|busy|memory
                                       [--threads N]

Networks are randomly initialised at their real sizes: latency, bytes and build time do not depend
on what the weights mean.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.table import Table
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.formats.int4_weights import BlockInt4Quantizer, Int4Quantizer
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import WeightMemo
from hardware.graph import module_choices
from hardware.graph.export import export_template
from hardware.graph.template import Template
from hardware.latency import Latency, Ratio, run_times
from hardware.session import Arrays, open_session
from hardware.target import Target
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import Weights, arrays, materialize, save_model
from supernets.families.bert.config import BertConfig
from supernets.families.image_transformer import ImageSuperNetwork
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.network import ResNetSuperNetwork
from supernets.families.super_network import SuperNetwork
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.layers.batch_norm import fold

Network = TypeVar("Network", bound=SuperNetwork)

CONSOLE = Console()
RNG = np.random.default_rng(0)
BUSY_MEASUREMENTS = 5
WIDTHS, TOKENS = (768, 3072), (197, 1)
VIT_B16 = VitConfig(
    image_size=224, patch_size=16, channels=3, embed_dim=768, depth=12, num_heads=12,
    hidden_dim=3072, layer_norm_eps=1e-12,
)  # fmt: skip
BERT_BASE = BertConfig(
    vocab_size=30522, max_positions=512, embed_dim=768, depth=12, num_heads=12, hidden_dim=3072
)
MINI_LM = BERT_BASE.model_copy(update={"embed_dim": 384, "depth": 6, "hidden_dim": 1536})
RESNET_50 = ResNetConfig(
    image_size=224, channels=3, block="bottleneck", stem_width=64, stem_kernel=7, stem_stride=2,
    stem_pool=True, depths=(3, 4, 6, 3), stage_widths=(256, 512, 1024, 2048),
    inner_widths=(64, 128, 256, 512), first_stage_stride=1,
)  # fmt: skip


class LinearStack(nn.Module):
    """Eight linear layers that widen and narrow in turn."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [*WIDTHS * 4, WIDTHS[0]]
        self.layers = nn.ModuleDict(
            {str(i): nn.Linear(a, b) for i, (a, b) in enumerate(pairwise(sizes))}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply all layers, (batch, tokens, width)."""
        for layer in self.layers.values():
            x = layer(x)
        return x


def vit_b16() -> ImageSuperNetwork:
    """ViT-B/16 at 224 pixels, 1,000 classes."""
    return randomised(ImageSuperNetwork(VIT_B16, 1000))


def bert_base() -> TextSuperNetwork:
    """BERT-base, two classes."""
    return randomised(TextSuperNetwork(BERT_BASE, 2))


def mini_lm() -> TextSuperNetwork:
    """MiniLM's sizes, 150 classes."""
    return randomised(TextSuperNetwork(MINI_LM, 150))


def resnet50() -> ResNetSuperNetwork:
    """ResNet-50 at 224 pixels, 1,000 classes."""
    return ResNetSuperNetwork(RESNET_50, 1000)


def randomised(network: Network) -> Network:
    """Distinct values everywhere, of the size that training gives them."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 or not name.endswith("weight"):
                parameter.normal_(0, 0.02)
    return network


def template_of(network: SuperNetwork, plain: nn.Module) -> Template:
    """The template of the largest network."""
    return export_template(plain, network.example_inputs(), dynamic_axes=network.dynamic_axes)


def uniform(template: Template, precision: str) -> QuantPolicy:
    """One precision for all layers."""
    return QuantPolicy.uniform([layer.name for layer in template.layers], find_format(precision))


def compare(models: Mapping[str, bytes | Path], inputs: Arrays, threads: int, repeats: int) -> None:
    """Print medians, quartiles, sizes and ratios to the first model, measured alternately."""
    target = Target(threads=threads)
    sources = {name: m if isinstance(m, bytes) else str(m) for name, m in models.items()}
    sessions = {name: open_session(source, target) for name, source in sources.items()}
    rounds = run_times(sessions, dict.fromkeys(models, inputs), repeats=repeats)
    table = Table("model", "median ms", "quartiles", "ratio", "95 % interval", "MB")
    first = next(iter(models))
    for name in models:
        latency, against = rounds.latency(name), rounds.ratio(name, first, RNG)
        model = models[name]
        size = len(model) if isinstance(model, bytes) else model.stat().st_size
        table.add_row(
            name,
            f"{latency.median_ms:.2f}",
            f"{latency.q1_ms:.2f} .. {latency.q3_ms:.2f}",
            f"{against.value:.3f}{' disturbed' if against.disturbed else ''}",
            f"{against.low:.3f} .. {against.high:.3f}",
            f"{size / 1e6:.2f}",
        )
    CONSOLE.print(table)


def linears(threads: int, repeats: int) -> None:
    """Fewer bits against INT8 and ONNX Runtime's own INT4, with the error of the weights."""
    network = LinearStack().eval()
    x = torch.randn(1, TOKENS[0], WIDTHS[0])
    template = export_template(network, {"x": x}, dynamic_axes={"x": {0: "batch", 1: "tokens"}})
    weights, memo = arrays(network.state_dict()), WeightMemo()
    blocks, wide = QuantScheme(int4_kernel="matmulnbits"), QuantScheme(group_size=64)
    made = {
        "int8": materialize(template, weights, uniform(template, "int8"), QuantScheme(), memo=memo),
        "int2": materialize(template, weights, uniform(template, "int2"), QuantScheme()),
        "int2, groups of 64": materialize(template, weights, uniform(template, "int2"), wide),
        "int3": materialize(template, weights, uniform(template, "int3"), QuantScheme()),
        "int4 (w4a8)": materialize(template, weights, uniform(template, "int4"), QuantScheme()),
        "int4 (MatMulNBits)": materialize(template, weights, uniform(template, "int4"), blocks),
        "fp32": materialize(template, weights, QuantPolicy({}), QuantScheme()),
    }
    models = {name: model.SerializeToString() for name, model in made.items()}
    for tokens in TOKENS:
        CONSOLE.print(f"eight linears {WIDTHS}, {tokens} tokens, {threads} thread(s)")
        inputs = {"x": RNG.standard_normal((1, tokens, WIDTHS[0]), np.float32)}
        compare(models, inputs, threads, repeats)
    errors = {"w4a8": 0.0, "MatMulNBits (by squared error)": 0.0, "MatMulNBits (onnxruntime)": 0.0}
    total = 0.0
    for layer in template.layers:
        weight = weights[f"{layer.name}.weight"]
        ours = memo.recall("", weight, Int4Quantizer(32))
        theirs = memo.recall("", weight, BlockInt4Quantizer(32))
        groups = weight.reshape(len(weight), -1, 32)
        peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
        plain = np.clip(np.rint(groups / (peak / -8)), -8, 7) * (peak / -8)
        decoded = theirs.values * theirs.scale[..., None]
        errors["w4a8"] += np.square(ours.integers * ours.scale[:, None] - weight).sum()
        errors["MatMulNBits (by squared error)"] += np.square(decoded - groups).sum()
        errors["MatMulNBits (onnxruntime)"] += np.square(plain - groups).sum()
        total += np.square(weight).sum()
    for name, error in errors.items():
        CONSOLE.print(f"relative weight error, {name}: {np.sqrt(error / total):.5f}")


def resnet(threads: int, repeats: int) -> None:
    """Fewer bits against INT8, all static QDQ, and FP32."""
    network = resnet50()
    plain = fold(network.extract())
    template, weights = template_of(network, plain), arrays(plain.state_dict())
    images = image(RESNET_50.image_size)
    ranges = calibrate(template, weights, QuantScheme(), [images])
    formats = ("int8", "int2", "int3", "int4", "fp32")
    schemes = {name: (name, QuantScheme()) for name in formats}
    schemes["int2, groups of 64"] = ("int2", QuantScheme(group_size=64))
    models = {
        title: materialize(
            template, weights, uniform(template, name), scheme, ranges
        ).SerializeToString()
        for title, (name, scheme) in schemes.items()
    }
    CONSOLE.print(f"ResNet-50, 224 pixels, {threads} thread(s)")
    compare(models, images, threads, repeats)


def build(threads: int, repeats: int) -> None:
    """Candidate to quantized file, against exporting and quantizing it anew."""
    torch.set_num_threads(threads)
    network = vit_b16()
    start = time.perf_counter()
    template = template_of(network, network.extract())
    CONSOLE.print(f"template, once per run: {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours.onnx"
        memo = WeightMemo()
        for precision in ("int8", "int4", "mixed", "mixed"):
            choices = ["fp32", "int8", "int4"] if precision == "mixed" else [precision]
            names = [layer.name for layer in template.layers]
            policy = QuantPolicy({n: find_format(str(RNG.choice(choices))) for n in names})
            start = time.perf_counter()
            weights = arrays(network.extract().state_dict())
            save_model(materialize(template, weights, policy, QuantScheme(), memo=memo), ours)
            seconds = time.perf_counter() - start
            CONSOLE.print(f"extract, materialize and write, {precision}: {seconds:.2f} s")
        start = time.perf_counter()
        quantize_anew(network.extract(), network, Path(folder))
        CONSOLE.print(f"export and quantize_dynamic: {time.perf_counter() - start:.1f} s")


def quantize_anew(plain: nn.Module, network: SuperNetwork, folder: Path) -> Path:
    """torch.onnx.export, then ONNX Runtime's per-channel dynamic quantization."""
    model = export_anew(plain, network, folder / "exported.onnx")
    quantized = folder / "quantized.onnx"
    quantize_dynamic(model, quantized, per_channel=True, weight_type=QuantType.QInt8)
    return quantized


def export_anew(plain: nn.Module, network: SuperNetwork, exported: Path) -> onnx.ModelProto:
    """torch.onnx.export to a file, sizes left open as the task needs them.

    The model comes without the shapes that ONNX Runtime's quantizers trip over.
    """
    inputs = network.example_inputs()
    axes = {name: network.dynamic_axes[name] for name in inputs}
    dims = {label: torch.export.Dim(label) for table in axes.values() for label in table.values()}
    torch.onnx.export(
        plain, (), exported, kwargs=inputs, input_names=list(inputs), output_names=["logits"],
        dynamic_shapes={n: {i: dims[label] for i, label in t.items()} for n, t in axes.items()},
        dynamo=True, verbose=False, external_data=False,
    )  # fmt: skip
    model = onnx.load(exported)
    del model.graph.value_info[:]
    return model


def transformer(network: SuperNetwork, inputs: Arrays, threads: int, repeats: int) -> None:
    """All formats of one transformer, against quantize_dynamic of the same network."""
    plain = network.extract()
    template, weights = template_of(network, plain), arrays(plain.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, bytes | Path] = {
            "quantize_dynamic": quantize_anew(plain, network, Path(folder))
        }
        for precision in ("int8", "int4", "fp32"):
            path = Path(folder) / f"{precision}.onnx"
            policy = uniform(template, precision)
            save_model(materialize(template, weights, policy, QuantScheme()), path)
            models[f"ours, {precision}"] = path
        compare(models, inputs, threads, repeats)


def vit(threads: int, repeats: int) -> None:
    """ViT-B/16, batch 1."""
    transformer(vit_b16(), image(VIT_B16.image_size), threads, repeats)


def bert(threads: int, repeats: int) -> None:
    """BERT-base, batch 1, 128 tokens."""
    transformer(bert_base(), text(128), threads, repeats)


def image(size: int) -> Arrays:
    """One image of noise."""
    return {"pixel_values": RNG.standard_normal((1, 3, size, size), np.float32)}


def text(tokens: int) -> Arrays:
    """One text of random tokens, nothing masked."""
    ids = RNG.integers(0, BERT_BASE.vocab_size, (1, tokens))
    return {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}


def last_block(threads: int, repeats: int) -> None:
    """MiniLM's sizes in INT8: the last block narrowed to what is read, and whole."""
    network = mini_lm()
    narrowed = template_of(network, network.extract())
    with patch.object(module_choices, "mark_read_tokens"):
        whole = template_of(network, network.extract())
    thirds = [-(-MINI_LM.depth * part // 3) for part in (3, 2, 1)]
    for depth, tokens in product(thirds, (16, 128)):
        network.activate({"depth": depth})
        models = {"whole": int8(network, whole), "narrowed": int8(network, narrowed)}
        CONSOLE.print(f"{depth} blocks, {tokens} tokens, {threads} thread(s)")
        compare(models, text(tokens), threads, repeats)


def int8(network: SuperNetwork, template: Template) -> bytes:
    """The active sub-network, all its layers in INT8."""
    weights = arrays(network.extract().state_dict())
    names = [layer.name for layer in network.layers if f"{layer.name}.weight" in weights]
    policy = QuantPolicy.uniform(names, INT8)
    content: bytes = materialize(template, weights, policy, QuantScheme()).SerializeToString()
    return content


def busy(threads: int, repeats: int, others: Sequence[int]) -> None:
    """How sure the ratio of two latencies is when other work fills the processors."""
    load = "import numpy as np\na = np.ones((768, 768), np.float32)\nwhile True: a @ a"
    command = [sys.executable, "-c", load]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    table = Table("others", "large ms", "ratio", "ratios not marked", "marked", "s each")
    pairs = list(_pairs_of_sizes())
    for number, (models, inputs) in product(others, pairs):
        loads = [subprocess.Popen(command, env=environment) for _ in range(number)]
        time.sleep(number)  # until they compute
        try:
            started = time.perf_counter()
            measured = _measured_often(models, inputs, threads, repeats)
            each = (time.perf_counter() - started) / BUSY_MEASUREMENTS
        finally:
            for process in loads:
                process.kill()
                process.wait()
        believed = [ratio.value for _, ratio in measured if not ratio.disturbed]
        table.add_row(
            str(number),
            f"{np.median([latency.median_ms for latency, _ in measured]):.2f}",
            f"{np.median([ratio.value for _, ratio in measured]):.3f}",
            f"{min(believed):.3f} .. {max(believed):.3f}" if believed else "-",
            f"{len(measured) - len(believed)} of {len(measured)}",
            f"{each:.1f}",
        )
    CONSOLE.print(table)


def _pairs_of_sizes() -> Iterator[tuple[dict[str, bytes], Arrays]]:
    """A large and a small network of MiniLM's kind; the large one takes about 0.3, 3 and 30 ms."""
    network = mini_lm()
    template = template_of(network, network.extract())
    for blocks, tokens in ((2, 16), (6, 64), (6, 400)):
        models = {}
        for name, depth, hidden_dim in (("large", blocks, 1536), ("small", blocks // 2, 384)):
            sizes = {f"blocks.{i}.mlp.hidden_dim": hidden_dim for i in range(6)}
            network.activate({"depth": depth, **sizes})
            models[name] = int8(network, template)
        yield models, text(tokens)


def _measured_often(
    models: Mapping[str, bytes], inputs: Arrays, threads: int, repeats: int
) -> list[tuple[Latency, Ratio]]:
    """The large one's latency, and the small one's over it, `BUSY_MEASUREMENTS` times."""
    sessions = {
        name: open_session(model, Target(threads=threads)) for name, model in models.items()
    }
    found = []
    for _ in range(BUSY_MEASUREMENTS):
        rounds = run_times(sessions, dict.fromkeys(models, inputs), repeats=repeats)
        found.append((rounds.latency("large"), rounds.ratio("small", "large", RNG)))
    return found


def memory(threads: int, repeats: int) -> None:
    """Peak memory of materializing ViT-B/16, in units of its FP32 bytes; in a fresh process."""
    folder = tempfile.mkdtemp()
    network = vit_b16()
    plain = network.extract()
    template_of(network, plain).save(Path(folder) / "template.onnx")
    weights: dict[str, Any] = dict(arrays(plain.state_dict()))
    np.savez(Path(folder) / "weights.npz", **weights)
    for precision in ("int8", "int4", "fp32"):
        arguments = ["_peak", "--folder", folder, "--precision", precision]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


def peak(folder: Path, precision: str) -> None:
    """Materialize and write once; the process holds nothing else."""
    template = Template.load(folder / "template.onnx")
    before = memory_status("VmRSS")
    with np.load(folder / "weights.npz") as stored:
        weights: Weights = {name: stored[name] for name in stored.files}
    fp32 = sum(array.nbytes for array in weights.values())
    model = materialize(template, weights, uniform(template, precision), QuantScheme())
    save_model(model, folder / f"{precision}.onnx")
    most = memory_status("VmHWM") - before
    CONSOLE.print(f"{precision}: peak {most / fp32:.2f} x the FP32 weights ({fp32 / 1e6:.0f} MB)")


def memory_status(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


COMMANDS = {
    "linears": linears, "resnet50": resnet, "materialize": build, "vit": vit, "bert": bert,
    "last_block": last_block, "memory": memory,
}  # fmt: skip


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=[*COMMANDS, "busy", "_peak"])
    parser.add_argument("--precision", default="int8", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 3, 6], help="for busy")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.command == "_peak":
        peak(options.folder, options.precision)
    elif options.command == "busy":
        busy(options.threads, options.repeats, options.others)
    else:
        COMMANDS[options.command](options.threads, options.repeats)


if __name__ == "__main__":
    main()
