import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
ABOUT = (ROOT / "components" / "metaie" / "__init__.py").read_text(encoding="utf8")

setup(
    name="metaie",
    version=re.search(r'__version__ = "(.+)"', ABOUT)[1],
    description="A spaCy component that marks the spans which answer any queried label",
    long_description=(ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="metaie contributors",
    package_dir={"": "components"},
    packages=find_packages("components"),
    package_data={
        "metaie": ["py.typed", "templates/*.jinja"],
        "metaie.teacher": ["templates/*.jinja"],
    },
    python_requires=">=3.11",
    install_requires=[
        "spacy>=3.8.0,<3.9.0",
        "spacy-transformers>=1.3.9,<1.5.0",
        "spacy-llm>=0.7.3,<0.8.0",
        "thinc>=8.3.4,<8.4.0",
        "torch>=2.6.0",
        "transformers>=4.40.0,<4.54.0",
        "filelock>=3.18.0",
        "huggingface-hub>=0.20.0,<1.0.0",
        "jinja2>=3.1.0",
        "numpy>=2.0.0,<3.0.0",
        "pydantic>=2.0.0,<3.0.0",
        "smart-open>=7.5.0",
        "srsly>=2.5.0,<3.0.0",
        "tqdm>=4.60.0",
        "typer>=0.19.0",
        "wasabi>=1.1.2,<1.2.0",
        "weasel>=0.4.1,<2.0.0",
    ],
    extras_require={
        "annotate": ["datasketch>=1.6.0", "pyarrow>=14.0.0", "smart-open[zst]>=7.5.0"],
        "chat": ["aiohttp>=3.14.4,<4.0.0", "httpx2>=2.12.0,<3.0.0", "openai>=3.57.0,<4.0.0"],
        "fuzz": ["atheris>=3.0.0"],
        "graph": ["matplotlib>=3.8.0", "networkx>=3.0", "rdflib>=7.0.0"],
        "onnx": ["onnx>=1.16.0", "onnxruntime>=1.18.0"],
        "plot": ["matplotlib>=3.8.0"],
        "ray": ["pyarrow>=14.0.0", "ray[data]>=2.60.0,<2.64.0", "smart-open[zst]>=7.5.0"],
        "dev": [
            "aiohttp>=3.14.4,<4.0.0",
            "build>=1.2.0",
            "datasketch>=1.6.0",
            "httpx2>=2.12.0,<3.0.0",
            "hypothesis>=6.100.0",
            "matplotlib>=3.8.0",
            "mypy>=1.10.0",
            "networkx>=3.0",
            "onnx>=1.16.0",
            "onnxruntime>=1.18.0",
            "openai>=3.57.0,<4.0.0",
            "pyarrow>=14.0.0",
            "pytest>=8.0.0",
            "pytest-cov>=5.0.0",
            "rdflib>=7.0.0",
            "ruff>=0.6.0",
            "smart-open[zst]>=7.5.0",
        ],
    },
    # spaCy and spacy-llm (whose registries bear thinc's name) find what is registered here:
    # nobody needs `--code` or an import.
    entry_points={
        "console_scripts": ["metaie = metaie.cli:app"],
        "spacy_factories": [
            "metaie = metaie.pipe:make_metaie",
            "metaie_structure = metaie.tasks.structure:make_structure",
        ],
        "spacy_architectures": [
            "metaie.CrossEncoder.v1 = metaie.tagger.cross_encoder:build_cross_encoder",
            "metaie.LLM.v1 = metaie.tagger.llm:build_llm_tagger",
            "metaie.OnnxLateFusion.v1 = metaie.tagger.onnx:build_onnx_late_fusion",
            "metaie.LateFusion.v1 = metaie.tagger.late_fusion:build_late_fusion",
        ],
        "spacy_misc": [
            "metaie.LabelRouter.v1 = metaie.routing:create_label_router",
            "metaie.Sampler.v1 = metaie.sampling:create_sampler",
            "metaie.TagLoss.v1 = metaie.loss:create_tag_loss",
        ],
        "spacy_readers": ["metaie.Corpus.v1 = metaie.corpus:create_corpus"],
        "spacy_scorers": [
            "metaie.scorer.v1 = metaie.scoring:make_scorer",
            "metaie.structure_scorer.v1 = metaie.tasks.scoring:make_structure_scorer",
        ],
        "thinc_llm_tasks": [
            "metaie.ImportantInformation.v1 = metaie.teacher.task:make_important_information_task",
            "metaie.QueriedLabels.v1 = metaie.teacher.queried_labels:make_queried_labels_task",
        ],
        "thinc_llm_models": [
            "metaie.Chat.v1 = metaie.teacher.chat:make_chat",
            "metaie.Journal.v1 = metaie.teacher.journal:make_journal",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
)
