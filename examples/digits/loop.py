"""The inference loop on the device: classify every sample of a file and count what is right.

python loop.py evaluation.npz
"""

import sys

import numpy as np

import edgekit_runtime

samples = np.load(sys.argv[1])
images, labels = samples["x"], samples["labels"]
right = 0
with edgekit_runtime.load("digits") as session:
    for index, label in enumerate(labels):
        logits = session.predict(images[index : index + 1])["logits"]
        right += int(logits.argmax() == label)
print(f"accuracy {right / len(labels):.4f} over {len(labels)} samples")
