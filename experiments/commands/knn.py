"""`a2mim knn`: how well frozen features tell classes apart by their nearest neighbours."""

from dataclasses import dataclass, field

from a2mim.bounds import Count, Positive
from a2mim.settings import Data, Evaluation, Network
from experiments.options import Features


@dataclass(frozen=True)
class Settings(Features):
    """Classify the validation images by the k training images of most similar features (DINO's protocol).

    Features are what the network hands to its classifier, of centre-cropped images; similarity is their cosine, and
    each neighbour votes with exp(similarity / temperature). Writes knn.json: accuracy, all settings, what
    was loaded and assumed of the weights, and how images are shown.

    For example:
        a2mim knn --weights runs/a2mim-vit --data imagenet --out runs/a2mim-vit/knn.json
        a2mim knn --model resnet50 --weights pretrained --data train.tar --val test.tar --limit 50000 --out knn.json
    """

    k: Count = 20
    """Number of neighbours."""
    temperature: Positive = 0.07
    """Temperature of the votes."""
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    evaluation: Evaluation = field(default_factory=Evaluation)


def run(settings: Settings) -> None:
    """Classify, write, and say what was reached."""
    from a2mim.dist import join
    from a2mim.evaluate.knn import knn
    from experiments.machine import commit
    from experiments.training.frozen import both_features, sized, write_result

    settings = sized(settings)
    about = {"commit": commit()}
    with join(settings.device) as world:
        (train,), test, made = both_features(settings, world, neighbours=settings.k)
        if world.main:
            result = knn(*train.pair, *test.pair, k=settings.k, temperature=settings.temperature, device=world.device)
            write_result(settings, "knn", about | made | result, train, test)
