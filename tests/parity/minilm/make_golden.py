#!/usr/bin/env python3
"""What sentence-transformers (float32) makes of texts.jsonl with the real all-MiniLM-L6-v2.

    python make_golden.py MODEL_FOLDER [OUTPUT]        (default: golden.f32 beside this script)

Each text alone, so that padding plays no part; longer ones are cut at the model's 256 tokens.
OUTPUT: [n_texts, 384] float32, little-endian. Made with the versions of ../requirements.txt.
"""
import json
import os
import sys

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    folder = sys.argv[1]
    output = sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "golden.f32")
    torch.set_num_threads(1)
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
    with open(os.path.join(HERE, "texts.jsonl"), encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    rows = [model.encode([text], batch_size=1)[0] for text in texts]
    np.stack(rows).astype("<f4").tofile(output)
    n_tokens = [model.preprocess([text])["input_ids"].shape[1] for text in texts]
    print(f"{output}: {len(rows)} texts of {min(n_tokens)} to {max(n_tokens)} tokens")


if __name__ == "__main__":
    main()
