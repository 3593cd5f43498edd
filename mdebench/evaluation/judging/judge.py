"""A judge: a classifier that looks at pictures and says what it sees (section 3.2.1). Who it is, `judges` knows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdebench.compute.machine import default_device
from mdebench.data.pack import Pack
from mdebench.evaluation.passes import CHUNK, Indices, chunks, load
from mdebench.methods.classifiers import Classifier, Look


@dataclass(frozen=True)
class Judge:
    """A classifier that says of pictures what it sees.

    ``name`` for rows and people; ``id`` for keys, without any path; ``classes``: how many it tells apart, 0 for
    features only; ``dim``: of the features; ``accuracy``: in %, on held-out images of its classes, where known.
    """

    name: str
    id: str
    classes: int
    dim: int
    classifier: Classifier
    accuracy: float | None = None

    def look(self, images: Tensor) -> Look:
        """What the classifier says of images (N, 3, H, W) in [0, 1] on any device; the answer is float32 on the CPU."""
        device = self.classifier.mean.device
        with torch.no_grad():
            looks = [self.classifier(piece.to(device)) for piece in torch.split(images, CHUNK)]
        logits = [look.logits.float().cpu() for look in looks if look.logits is not None]
        return Look(torch.cat([look.features.float().cpu() for look in looks]), torch.cat(logits) if logits else None)

    def look_at(self, pack: Pack, indices: Indices) -> Look:
        """What it says of the pack's images of these rows, at least one."""
        looks = [self.look(load(pack, piece, torch.device("cpu"))) for piece in chunks(indices)]
        logits = [look.logits for look in looks if look.logits is not None]
        return Look(torch.cat([look.features for look in looks]), torch.cat(logits) if logits else None)


def ready(classifier: Classifier) -> Classifier:
    """The classifier where networks run here, in eval mode, without gradients."""
    network: nn.Module = classifier.to(default_device()).eval().requires_grad_(False)
    assert isinstance(network, Classifier)
    return network


def describe(judge: Judge) -> list[str]:
    """A judge in lines for a person: its name, its id, what it gives and how good it is."""
    told = f"{judge.classes} classes, chance {100 / judge.classes:.2g} %" if judge.classes else "no classes"
    accuracy = "not known" if judge.accuracy is None else f"{judge.accuracy:.1f} %"
    return [judge.name, f"id in keys: {judge.id}", f"{told}; {judge.dim} features", f"held-out accuracy: {accuracy}"]
