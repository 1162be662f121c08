"""Feature purification on CIFAR-10: the paper's experiment on real images (docs/cifar10.md)."""
