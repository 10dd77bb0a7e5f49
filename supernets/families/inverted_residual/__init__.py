"""What networks of inverted residual blocks share: MobileNetV2, EfficientNet."""
