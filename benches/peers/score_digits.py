"""Scores generated digits against the digits data set.

usage: score_digits.py FILE.npz

The file holds `arr_0`, uint8 images (N, 8, 8, 1), and `arr_1`, the N labels that
were asked for. Prints one JSON object:

* `accuracy`: share of images in which a support-vector classifier (RBF kernel,
  gamma 0.001, trained on the data set's pixels 0..16) finds the label asked for;
* `frechet`: Fréchet distance of the pixel vectors (64 numbers, 0..16) to the data
  set's: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

Needs numpy and scikit-learn; the data set is the one that scikit-learn ships.
"""

import json
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.svm import SVC


def pixels(images):
    """uint8 images (N, 8, 8, 1) to vectors (N, 64) on the data set's scale 0..16."""
    if images.dtype != np.uint8 or images.shape[1:] != (8, 8, 1):
        sys.exit(
            f"expected uint8 images (N, 8, 8, 1), got {images.dtype} {images.shape}"
        )
    return images.reshape(len(images), -1).astype(np.float64) * (16 / 255)


def frechet(a, b):
    """Fréchet distance of the Gaussians fitted to the rows of a and of b."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # C1 C2 is similar to a symmetric matrix with eigenvalues >= 0; rounding leaves
    # tiny negative or complex parts where the covariances are singular.
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0)).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with np.load(sys.argv[1]) as file:
        images, labels = pixels(file["arr_0"]), file["arr_1"]
    if len(images) != len(labels):
        sys.exit(f"{len(images)} images but {len(labels)} labels")
    digits = load_digits()
    found = SVC(gamma=0.001).fit(digits.data, digits.target).predict(images)
    score = {
        "accuracy": float((found == labels.ravel()).mean()),
        "frechet": frechet(images, digits.data),
    }
    print(json.dumps(score))


if __name__ == "__main__":
    main()
