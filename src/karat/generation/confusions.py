"""Which classes a classifier takes for each other in human records. Knows no task file and no provider."""

from __future__ import annotations

from collections.abc import Sequence

from karat.errors import NotEnoughData
from karat.records import Records

_FOLDS = 4


def confused(human: Records, names: Sequence[str], *, count: int, seed: int) -> dict[str, list[str]]:
    """For each class those that its texts are most often taken for, most often first.

    Out-of-fold probabilities of a logistic regression on TF-IDF of words and character n-grams; classes with
    fewer records than folds are left out. Raises NotEnoughData where fewer than two classes are left.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    labels = human.labels() or []
    sizes = {name: labels.count(name) for name in names}
    used = [name for name in names if sizes[name] >= _FOLDS]
    if len(used) < 2:
        raise NotEnoughData(
            f"{human.path}: fewer than two classes of the task have {_FOLDS} records; give more human records"
        )
    rows = [i for i, label in enumerate(labels) if label in set(used)]
    texts = human.texts()
    model = make_pipeline(
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True, max_features=50_000
        ),
        LogisticRegression(C=10.0, max_iter=300),
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    own = np.array([labels[i] for i in rows])
    chances = cross_val_predict(model, [texts[i] for i in rows], own, cv=folds, method="predict_proba")
    classes = sorted(set(own.tolist()))
    found: dict[str, list[str]] = {}
    for name in used:
        mean = chances[own == name].mean(axis=0)
        order = [classes[j] for j in np.argsort(-mean, kind="stable") if classes[j] != name]
        found[name] = order[:count]
    return found
