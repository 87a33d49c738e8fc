"""What the page of results says in short is what the kept tables say."""

import pandas as pd
from conftest import PROJECT

FIGURES = PROJECT / "figures"


def kept(target, name="statistics"):
    return pd.read_csv(FIGURES / target / f"{name}.csv").set_index("method")


def told_apart(target):
    """The rows whose AUC is told from the baseline's, with the sign of the difference."""
    table = kept(target)
    sure = table[table["auc_p_holm"] < 0.05]
    return {row: difference > 0 for row, difference in sure["auc_difference"].items()}


def test_ag_gan_and_ag_gan_plus_match_better_than_all_others_and_alike():
    for target in ("table1", "table2"):
        others = set(kept(target).index) - {"AG-GAN", "AG-GAN+"}
        assert told_apart(target) == dict.fromkeys(others, False)
        table = kept(target)
        untranslated = kept(target, "table").loc["thermal baseline", "auc"]
        assert (table.loc[list(others), "auc"] < untranslated).mean() > 0.5  # most of the others


def test_modules_and_cam_losses_are_not_told_apart():
    assert told_apart("table5") == told_apart("table4") == {}
    assert told_apart("table3") == {"CAM weight 1000": False}


def test_a_recogniser_in_the_losses_decides():
    judged = pd.read_csv(FIGURES / "teachers" / "table.csv", keep_default_na=False)
    auc = judged[judged["judge"] == "dlib"].set_index("row")["auc"]
    assert auc["none"] < auc["thermal baseline"] < auc["synthetic-arcface"] < auc["mobilefacenet"]


def test_ag_gan_attends_to_hair_and_not_to_skin_and_eyes():
    found = pd.read_csv(FIGURES / "figure6" / "table.csv").set_index("claim")["verdict"]
    generator = "AG-GAN: generator attention on the"
    assert found[f"{generator} hair is above the face's mean"] == "supported"
    assert found[f"{generator} skin is below the face's mean"] == "supported"
    assert found[f"{generator} eyes is above the face's mean"] == "not supported"
    deletion = "AG-GAN: the output depends on where generator attention is high (deletion)"
    assert found[deletion] == "supported"


def test_most_others_are_below_no_translation_by_dlib_and_none_by_the_synthetic_judge():
    for target, below in (("table1", 4), ("table2", 7)):
        untranslated, rows = kept(target, "table").loc["thermal baseline"], kept(target)
        assert (rows["auc"] < untranslated["auc"]).sum() == below
        assert (rows["synthetic_auc"] > untranslated["synthetic_auc"]).all()


def test_attention_on_the_eyes_comes_with_size_and_that_on_the_mouth_varies():
    claims = pd.read_csv(FIGURES / "verdicts" / "claims.csv")
    claim = "AG-GAN: generator attention on the {} is above the face's mean"
    found = claims.set_index(["claim", "network"])
    eyes, mouth = (found.loc[claim.format(part)] for part in ("eyes", "mouth"))
    small = ["chosen checkpoint", "longer training", "other protocol"]
    assert (eyes.loc[[f"64 px, {name}" for name in small], "verdict"] == "not supported").all()
    assert eyes.loc["128 px, shipped model", "verdict"] == "supported"
    assert mouth.loc["128 px, shipped model", "verdict"] == "supported"
    assert mouth.loc["64 px, other protocol", "verdict"] == "supported"
    seeds = pd.read_csv(FIGURES / "figure8" / "table.csv").set_index("claim")["verdict"]
    assert seeds[claim.format("mouth")] == "inconclusive"


def test_more_people_change_little_in_so_short_a_training():
    rows = pd.read_csv(FIGURES / "people" / "statistics.csv").set_index("method")
    assert rows["seeds"].min() == 3 and rows["above_p_holm"].min() > 0.05
    assert (round(rows.loc[60, "auc"], 1), round(rows.loc[2000, "auc"], 1)) == (82.6, 85.6)


def test_blur_and_low_resolution_cost_most_and_the_other_protocol_as_much_either_way():
    table = pd.read_csv(FIGURES / "figure10" / "table.csv")
    for change, level in (("blur", 1 / 16), ("resolution", 1 / 8)):
        own = table[(table["change"] == change) & (table["level"] == level)]
        untranslated = own[own["method"] == "thermal baseline"]
        assert len(untranslated) == 2 and untranslated["auc_p_holm"].min() > 0.05
        frontal = own[own["trained_on"] == "synthetic-arl"].set_index("method")
        highest = frontal.loc["thermal baseline", "synthetic_auc_high"]
        assert frontal.loc["AG-GAN+", "synthetic_auc_low"] > highest
    ours = table[table["method"] == "AG-GAN+"].set_index(["change", "trained_on"])["auc"].round(1)
    frontal, posed = "synthetic-arl", "synthetic-speakingfaces"
    assert (ours["other protocol", frontal], ours["none", posed]) == (65.9, 71.3)
    assert (ours["other protocol", posed], ours["none", frontal]) == (81.8, 86.4)
