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


def test_attention_on_eyes_and_mouth_comes_with_size():
    claims = pd.read_csv(FIGURES / "verdicts" / "claims.csv")
    for part in ("eyes", "mouth"):
        claim = f"AG-GAN: generator attention on the {part}"
        networks = ("64 px, chosen checkpoint", "64 px, longer training", "128 px, shipped model")
        chosen, longer, shipped = (
            claims[claims["claim"].str.startswith(claim) & (claims["network"] == network)].iloc[0]
            for network in networks
        )
        assert chosen["value"] < longer["value"] < 1 < shipped["low"]
        assert longer["verdict"] == "not supported" and shipped["verdict"] == "supported"
