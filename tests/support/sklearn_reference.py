"""What scikit-learn and numpy make of the arrays in a folder; printed as JSON for evaluate_against_sklearn.rs."""
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score
from sklearn.preprocessing import StandardScaler

folder = Path(sys.argv[1])
load = lambda name: np.load(folder / f"{name}.npy")
x, y, weight = load("x").astype(np.float64), load("y"), load("weight")


def fit(case):
    rows = y < case["classes"]
    x_, y_ = x[rows], y[rows]
    scaler = StandardScaler().fit(x_) if case["standardise"] else StandardScaler(with_mean=False, with_std=False).fit(x_)
    model = LogisticRegression(
        C=case["c"], class_weight="balanced" if case["balanced"] else None, tol=1e-8, max_iter=5000
    ).fit(scaler.transform(x_), y_, sample_weight=weight[rows] if case["weighted"] else None)
    scale = scaler.scale_ if case["standardise"] else np.ones(x.shape[1])
    mean = scaler.mean_ if case["standardise"] else np.zeros(x.shape[1])
    coef = model.coef_ / scale
    return {
        "coef": coef.tolist(),
        "intercept": (model.intercept_ - coef @ mean).tolist(),
        "probabilities": model.predict_proba(scaler.transform(x_)).tolist(),
    }


def scores():
    truth, decoded = load("truth"), load("decoded")
    labels = np.arange(int(max(truth.max(), decoded.max())) + 1)
    return {
        "confusion": confusion_matrix(truth, decoded, labels=labels).tolist(),
        "accuracy": accuracy_score(truth, decoded),
        "balanced_accuracy": balanced_accuracy_score(truth, decoded),
        "macro_f1": f1_score(truth, decoded, labels=np.unique(truth), average="macro", zero_division=0),
    }


def log_softmax(s):
    s = s - s.max(axis=1, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=1, keepdims=True))


def info_nce(b, n, tau):
    b, n = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (b, n))
    s = b @ n.T / tau
    return -(np.diag(log_softmax(s)).mean() + np.diag(log_softmax(s.T)).mean()) / 2


def mmd2(a, b, sigmas, unbiased):
    def kernel(p, q):
        square = ((p[:, None] - q[None]) ** 2).sum(-1)
        return np.mean([np.exp(-square / (2 * s * s)) for s in sigmas], axis=0)

    def within(p):
        k, n = kernel(p, p), len(p)
        return (k.sum() - np.trace(k)) / (n * (n - 1)) if unbiased else k.mean()

    return within(a) + within(b) - 2 * kernel(a, b).mean()


def coral(a, b):
    return ((np.cov(a.T) - np.cov(b.T)) ** 2).sum() / (4 * a.shape[1] ** 2)


b, n = load("behaviour"), load("neural")
print(json.dumps({
    "fits": [fit(case) for case in json.loads((folder / "cases.json").read_text())],
    "scores": scores(),
    "info_nce": info_nce(b, n, 0.1),
    "mmd2_unbiased": mmd2(b, n, [0.5, 2.0], True),
    "mmd2_biased": mmd2(b, n, [0.5, 2.0], False),
    "coral": coral(b, n),
}))
