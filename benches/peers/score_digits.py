"""Scores generated digits against the digits data set.

usage: score_digits.py FILE.npz [REPORT.json]

The file holds `arr_0`, uint8 images (N, 8, 8, 1), and `arr_1`, the N labels that
were asked for. Prints one JSON object:

* `accuracy`: share of images in which a support-vector classifier (RBF kernel,
  gamma 0.001, trained on the data set's pixels 0..16) finds the label asked for;
* `frechet`: Fréchet distance of the pixel vectors (64 numbers, 0..16) to the data
  set's: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

With the report of `meanflow eval FILE.npz --ref configs/digits.toml --features pixels`,
it computes the report's metrics too, by numpy and scikit-learn alone, and prints each
with the report's and their difference relative to it; exit code 1 if one is above 1e-5.
The report's pixels lie in [-1, 1], an eighth of 0..16; f32 holds them to 6e-8.

Needs numpy and scikit-learn; the data set is the one that scikit-learn ships.
"""

import json
import sys

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
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


def inside(points, of, neighbours=3):
    """Share of points within the ball of a sample of `of` that reaches its third neighbour."""
    found, _ = NearestNeighbors(n_neighbors=neighbours + 1).fit(of).kneighbors(of)
    radii = found[:, -1]
    distances = cdist(points, of)
    return float((distances <= radii * (1 + 1e-9)).any(axis=1).mean())


def nearest(points, of, which=0):
    """Median distance of points to their nearest in `of`, or to the one after `which`."""
    found, _ = NearestNeighbors(n_neighbors=which + 1).fit(of).kneighbors(points)
    return float(np.sort(found[:, which])[len(points) // 2])


def metrics(images, data):
    """The metrics of a report, by name, on its scale; it sees the data as bytes, too."""
    data = np.floor(data * (255 / 16) + 0.5) * (16 / 255)
    images, data = images / 8 - 1, data / 8 - 1
    return {
        "fd_pixels": frechet(images, data),
        "precision": inside(images, data),
        "recall": inside(data, images),
        "sample_to_data": nearest(images[:100], data),
        "data_to_data": nearest(data[:1000], data, which=1),
    }


def compare(images, data, path):
    """Prints the figures beside those of a report; whether they agree."""
    with open(path) as file:
        report = json.load(file)
    sampler = report["samplers"][0]
    known = {name: found["mean"] for name, found in sampler["metrics"].items()}
    known |= report["memorisation"]
    agree = True
    for name, here in metrics(images, data).items():
        apart = abs(known[name] - here) / abs(here)
        agree &= apart <= 1e-5
        print(f"{name}: here {here:.9g}, report {known[name]:.9g}, apart {apart:.1e}")
    return agree


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with np.load(sys.argv[1]) as file:
        images, labels = pixels(file["arr_0"]), file["arr_1"]
    if len(images) != len(labels):
        sys.exit(f"{len(images)} images but {len(labels)} labels")
    digits = load_digits()
    if len(sys.argv) == 3:
        sys.exit(0 if compare(images, digits.data, sys.argv[2]) else 1)
    found = SVC(gamma=0.001).fit(digits.data, digits.target).predict(images)
    score = {
        "accuracy": float((found == labels.ravel()).mean()),
        "frechet": frechet(images, digits.data),
    }
    print(json.dumps(score))


if __name__ == "__main__":
    main()
