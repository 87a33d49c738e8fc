"""What the page of results says in short is what the kept tables say."""

import pandas as pd
from conftest import PROJECT

FIGURES = PROJECT / "figures"


def kept(target, name="statistics"):
    return pd.read_csv(FIGURES / target / f"{name}.csv").set_index("method")


def verdicts(target):
    """The verdict of each claim of a figure."""
    return pd.read_csv(FIGURES / target / "table.csv").set_index("claim")["verdict"]


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


def test_lead_over_sg_gan_is_inconclusive_by_the_synthetic_judge_and_at_one_percent():
    for row in ("AG-GAN", "AG-GAN+"):
        found = verdicts("figure5").filter(like=f"{row} has a")
        auc = found.filter(like="larger area under the curve than SG-GAN, the best other")
        assert (auc == "supported").all() and (found.drop(auc.index) == "inconclusive").all()
        assert len(found) == 3


def test_modules_and_cam_losses_are_not_told_apart():
    assert told_apart("table5") == told_apart("table4") == {}
    assert told_apart("table3") == {"CAM weight 1000": False}


def test_a_recogniser_in_the_losses_decides():
    judged = pd.read_csv(FIGURES / "teachers" / "table.csv", keep_default_na=False)
    auc = judged[judged["judge"] == "dlib"].set_index("row")["auc"]
    assert auc["none"] < auc["thermal baseline"] < auc["synthetic-arcface"] < auc["mobilefacenet"]
    shown = auc[["none", "mobilefacenet", "thermal baseline"]].round(1)
    assert list(shown) == [58.6, 85.6, 62.5]
    dlib = judged[judged["judge"] == "dlib"].set_index("row")
    assert dlib.loc["synthetic-arcface", "auc_high"] < dlib.loc["mobilefacenet", "auc_low"]
    auc = judged[judged["judge"] == "synthetic-matcher"].set_index("row")["auc"]
    assert auc["none"].round(1) == 89.6
    assert (auc[["synthetic-arcface", "mobilefacenet", "dlib"]].round() == 97).all()


def test_ag_gan_attends_to_hair_and_not_to_skin_and_eyes():
    found = verdicts("figure6")
    generator = "AG-GAN: generator attention on the"
    assert found[f"{generator} hair is above the face's mean"] == "supported"
    assert found[f"{generator} skin is below the face's mean"] == "supported"
    assert found[f"{generator} eyes is above the face's mean"] == "not supported"
    deletion = "AG-GAN: the output depends on where generator attention is high (deletion)"
    assert found[deletion] == "supported"
    assert found[deletion.replace("deletion", "insertion")] == "not supported"
    posed = verdicts("figure8").filter(like="generator attention on the").filter(like="face's mean")
    told = posed[posed != "inconclusive"]
    assert dict(told) == {f"{generator} eyes is above the face's mean": "not supported"}


def test_most_others_are_below_no_translation_by_dlib_and_none_by_the_synthetic_judge():
    for target, below in (("table1", 4), ("table2", 7)):
        untranslated, rows = kept(target, "table").loc["thermal baseline"], kept(target)
        assert (rows["auc"] < untranslated["auc"]).sum() == below
        assert (rows["synthetic_auc"] > untranslated["synthetic_auc"]).all()


def test_attention_on_the_eyes_is_above_the_mean_in_one_shipped_model_and_the_mouth_varies():
    claims = pd.read_csv(FIGURES / "verdicts" / "claims.csv")
    claim = "AG-GAN: generator attention on the {} is above the face's mean"
    found = claims.set_index(["claim", "network"])
    eyes, mouth = (found.loc[claim.format(part)] for part in ("eyes", "mouth"))
    small = ["chosen checkpoint", "longer training", "other protocol"]
    assert (eyes.loc[[f"64 px, {name}" for name in small], "verdict"] == "not supported").all()
    assert eyes.loc["128 px, shipped model", "verdict"] == "supported"
    other = found.loc[claim.replace("AG-GAN", "AG-GAN+").format("eyes")]
    assert other.loc["128 px, shipped model", "verdict"] == "not supported"
    shuffled = found.loc["AG-GAN: generator maps depend on the trained weights"]
    assert shuffled.loc["128 px, shipped model", "verdict"] == "not supported"
    assert mouth.loc["128 px, shipped model", "verdict"] == "supported"
    assert mouth.loc["64 px, other protocol", "verdict"] == "supported"
    assert verdicts("figure8")[claim.format("mouth")] == "inconclusive"


def test_more_people_change_little_in_so_short_a_training():
    rows = pd.read_csv(FIGURES / "people" / "statistics.csv").set_index("method")
    assert rows["seeds"].min() == 3 and rows["above_p_holm"].min() > 0.05
    assert (round(rows.loc[60, "auc"], 1), round(rows.loc[2000, "auc"], 1)) == (82.6, 85.6)


def test_blur_and_low_resolution_cost_most_and_the_other_protocol_as_much_either_way():
    table = pd.read_csv(FIGURES / "figure10" / "table.csv").fillna({"level": 0})
    untranslated = table[table["method"] == "thermal baseline"]
    alike = untranslated[untranslated["auc_p_holm"] > 0.05]
    assert sorted(zip(alike["trained_on"], alike["change"], alike["level"])) == [
        ("synthetic-arl", "blur", 1 / 16),
        ("synthetic-arl", "glasses", 0),
        ("synthetic-arl", "resolution", 1 / 8),
        ("synthetic-speakingfaces", "blur", 1 / 16),
        ("synthetic-speakingfaces", "resolution", 1 / 8),
        ("synthetic-speakingfaces", "resolution", 1 / 4),
        ("synthetic-speakingfaces", "temperature", 0.2),
    ]
    for change, level in (("blur", 1 / 16), ("resolution", 1 / 8)):
        own = table[(table["change"] == change) & (table["level"] == level)]
        frontal = own[own["trained_on"] == "synthetic-arl"].set_index("method")
        highest = frontal.loc["thermal baseline", "synthetic_auc_high"]
        assert frontal.loc["AG-GAN+", "synthetic_auc_low"] > highest
    ours = table[table["method"] == "AG-GAN+"].set_index(["change", "trained_on"])["auc"].round(1)
    frontal, posed = "synthetic-arl", "synthetic-speakingfaces"
    assert (ours["other protocol", frontal], ours["none", posed]) == (65.9, 71.3)
    assert (ours["other protocol", posed], ours["none", frontal]) == (81.8, 86.4)
