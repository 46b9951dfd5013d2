from collections.abc import Callable

import pytest
from annotated import NLP, ROW
from metaie.convert import make_doc
from spacy.tokens import Doc


@pytest.fixture
def doc() -> Doc:
    """The text with everything that is annotated."""
    return make_doc(ROW, NLP, structures=True)


@pytest.fixture
def make_text() -> Callable[[str], Doc]:
    """Make a doc without annotation."""
    return NLP.make_doc
