"""What v is, against NumPy from the formulas and numbers worked by hand."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from interactions.values import CLASS_VALUES, VALUES, Features, correct, cosine, log_odds

LOGITS_BK = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
TARGET_B = torch.tensor([0, 4, 2, 2, 1, 3])


def test_class_values_are_their_formulas():
    z_BK = LOGITS_BK.numpy()
    p_BK = np.exp(z_BK) / np.exp(z_BK).sum(1, keepdims=True)
    for row, target in enumerate(TARGET_B.tolist()):
        p, z = p_BK[row, target], z_BK[row, target]
        expected = {"log_odds": np.log(p / (1 - p)), "log_prob": np.log(p), "logit": z, "probability": p}
        assert expected.keys() == CLASS_VALUES.keys()
        for name, value in expected.items():
            assert float(VALUES[name](LOGITS_BK, TARGET_B)[row]) == pytest.approx(value, rel=1e-12), name


def test_log_odds_by_hand():
    # p = 1/3, 1/2 and 3/4: log odds log 1/2, 0 and log 3.
    logits_BK = torch.tensor([[0, 0, 0], [np.log(2), 0, 0], [0, np.log(6), 0]], dtype=torch.float64)
    values_B = log_odds(logits_BK, torch.tensor([1, 0, 1]))
    np.testing.assert_allclose(values_B, [-np.log(2), 0, np.log(3)], atol=1e-15)


@pytest.mark.parametrize("gap", [60.0, -60.0, 800.0, -800.0])
def test_log_odds_stay_exact_where_the_probability_rounds_to_0_or_1(gap):
    assert float(log_odds(torch.tensor([[gap, 0.0]], dtype=torch.float64), torch.tensor([0]))) == gap


def test_the_logits_are_left_as_they_are():
    before = LOGITS_BK.clone()
    for name in CLASS_VALUES:
        VALUES[name](LOGITS_BK, TARGET_B)
    assert torch.equal(LOGITS_BK, before)


def test_cosine_is_its_formula():
    whole_BK = LOGITS_BK.flip(0)
    a_BK, b_BK = LOGITS_BK.numpy(), whole_BK.numpy()
    expected_B = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(a_BK, b_BK, strict=True)]
    np.testing.assert_allclose(cosine(LOGITS_BK, whole_BK), expected_B, rtol=1e-12)
    np.testing.assert_allclose(cosine(LOGITS_BK, 7 * LOGITS_BK), 1, rtol=1e-12)
    np.testing.assert_allclose(cosine(LOGITS_BK, -LOGITS_BK), -1, rtol=1e-12)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_features_of_a_timm_model_are_those_of_the_same_model_without_classifier(name):
    model: Any = timm.create_model(name, num_classes=7).eval()
    headless = timm.create_model(name, num_classes=0).eval()
    headless.load_state_dict({key: value for key, value in model.state_dict().items() if key in headless.state_dict()})
    images_BCHW = torch.randn(2, 3, *model.default_cfg["input_size"][1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features_BK = Features(model)(images_BCHW)
        assert features_BK.shape == (2, model.num_features)
        torch.testing.assert_close(features_BK, headless(images_BCHW))


def test_features_of_any_other_module_are_its_flat_output():
    images_BCHW = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    assert torch.equal(Features(nn.Identity())(images_BCHW), images_BCHW.view(2, 48))


def test_correct_is_whether_the_target_is_on_top_and_keeps_what_is_not_finite():
    expected = LOGITS_BK.numpy().argmax(1) == TARGET_B.numpy()
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(correct(LOGITS_BK, TARGET_B), expected.astype(float))
    for broken in (torch.nan, torch.inf, -torch.inf):
        logits_BK = LOGITS_BK.clone()
        logits_BK[2, 1] = broken
        assert correct(logits_BK, TARGET_B).isfinite().tolist() == [True, True, False, True, True, True]
