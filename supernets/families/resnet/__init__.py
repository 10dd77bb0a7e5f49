"""Residual networks of basic or bottleneck blocks."""

from supernets.families.family import Family
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.dimensions import DIMENSIONS

FAMILY = Family(
    sizes=ResNetConfig,
    model_types=("resnet",),
    network="supernets.families.resnet.network:ResNetSuperNetwork",
    title="A ResNet",
    dimensions=DIMENSIONS,
    least_opset=13,
)
