"""What convolutional networks of stages share: ResNet, ConvNeXt, MobileNetV2, EfficientNet."""
