"""How images are normalised before networks of others: what `timm_encoder` and `face_encoder` may be told."""

from mdebench.methods.classifiers import IMAGENET_MEAN, IMAGENET_STD

NORMALISED = {  # mean and deviation of three channels
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
