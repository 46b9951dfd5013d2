"""Texts that were there before, word for word or nearly."""

import re
import unicodedata
from collections.abc import Iterator

# Marks, as the vowel signs of Hindi, belong to the letter before them, but are no \w to `re`;
# nor are the joiners. Signs are words of their own: "x = -5" is not "x = 5".
MARKS = "".join(
    char for char in map(chr, range(0x300, 0x1F000)) if unicodedata.category(char)[0] == "M"
)
WORD = re.compile(rf"[\w{MARKS}\u200c\u200d]+|[^\w\s]")
SHINGLE = 3  # words
PERMUTATIONS = 128
LEAST, MOST = 0.1, 0.98  # what so many permutations can tell apart


class ExactDuplicates:
    """Knows a text again: by 16 bytes of its hash, so that many fit into memory."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def add(self, key: str) -> bool:
        """Take in a text by its SHA-256 in hexadecimal. Returns whether it is new."""
        digest = bytes.fromhex(key[:32])
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True


class NearDuplicates:
    """Knows a text again that has most of its shingles in common with an earlier one.

    Shingles are three words or signs in a row, in lower case. The share in common is Jaccard's, as
    estimated from 128 MinHashes (to within about 0.03); MinHash LSH finds the texts to
    compare with: four in five of those at the threshold, nearly all that are clearly above.
    After Broder (1997) and Leskovec et al., Mining of Massive Datasets, ch. 3. Takes a few
    kilobytes of memory a text.

    threshold: the share from which on texts count as nearly equal, from 0.1 to 0.98.

    Raises ValueError for another threshold, and where `datasketch` is not installed.
    """

    def __init__(self, threshold: float) -> None:
        if not LEAST <= threshold <= MOST:
            raise ValueError(
                f"The threshold of near duplicates must be from {LEAST} to {MOST}, as 0.9, not "
                f"{threshold!r}; 0 keeps them all."
            )
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as err:
            raise ValueError(
                'To find near duplicates: pip install "metaie[annotate]", or give '
                "`--near-duplicates 0` to keep them."
            ) from err
        self.threshold = threshold
        self._blank = MinHash(PERMUTATIONS)
        # It is set to miss few rather than to find few in vain: what it finds is compared.
        self._index = MinHashLSH(threshold, PERMUTATIONS, weights=(0.1, 0.9))
        self._signatures: list[MinHash] = []

    def add(self, text: str) -> bool:
        """Take in a text, if it is new. Returns whether it is."""
        signature = self._blank.copy()
        signature.update_batch([shingle.encode("utf-8") for shingle in set(make_shingles(text))])
        if any(
            self._signatures[i].jaccard(signature) >= self.threshold
            for i in self._index.query(signature)
        ):
            return False
        self._index.insert(len(self._signatures), signature, check_duplication=False)
        self._signatures.append(signature)
        return True


def make_shingles(text: str) -> Iterator[str]:
    """Yield each three words or signs in a row; a shorter text is one shingle."""
    words = WORD.findall(text.lower()) or [text]
    for i in range(max(1, len(words) - SHINGLE + 1)):
        yield " ".join(words[i : i + SHINGLE])
