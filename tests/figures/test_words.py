import pytest

from figures.words import (
    baseline_in_words,
    count_in_words,
    data_in_words,
    place_in_words,
    setup_in_words,
    value_in_words,
)


@pytest.mark.parametrize(
    ("of", "token", "words"),
    [
        (value_in_words, "log_odds", "log-odds"),
        (value_in_words, "cosine", "cosine similarity"),
        (value_in_words, "my_models:entropy", "my_models:entropy"),
        (baseline_in_words, "mean", "mean colour"),
        (baseline_in_words, "uniform_noise", "uniform noise"),
        (baseline_in_words, "my_models:grey", "my_models:grey"),
        (setup_in_words, "fine-tuned log_odds", "fine-tuned, log-odds"),
        (setup_in_words, "frozen", "frozen"),
        (data_in_words, "../shared/data/cifar10-test.tar", "CIFAR-10 test"),
        (data_in_words, "torch/cifar10", "CIFAR-10"),
        (data_in_words, "imagenet/val/", "ImageNet val"),
        (data_in_words, "my-photos", "my photos"),
        (place_in_words, "stages.0.blocks.1", "stage 0, block 1"),
        (place_in_words, "patch_embed", "patch embedding"),
        (place_in_words, "stem", "stem"),
    ],
)
def test_tokens_of_the_program_become_words_of_a_journal(of, token, words):
    assert of(token) == words


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([1, 1], "1 image"),
        ([16], "16 images"),
        ([8, 16], "8 to 16 images"),
        ([1, 8], "1 to 8 images"),
        ([], "an unknown number of images"),
    ],
)
def test_counts_have_their_plural(counts, words):
    assert count_in_words(counts, "image") == words
