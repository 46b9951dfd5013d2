"""Key the corpus's answers by the prompts that the present template makes.

    python corpus/make_journal.py                  after the template was changed
    python corpus/make_journal.py ANSWERS.jsonl    from rows with "id" and "response"

An answer belongs to the text of its "id". Run it only where the new template asks for the
same as the old one: the teacher is not asked again.
"""

import sys
from pathlib import Path

import srsly
from metaie.docbin import write_bytes
from metaie.teacher.record import hash_prompt
from metaie.teacher.task import make_important_information_task

CORPUS = Path(__file__).parent
JOURNAL = CORPUS / "teacher" / "journal.jsonl"
TEACHER = "large language model (unnamed)"


def make_journal(answers: Path) -> int:
    """Write the journal; returns the number of records."""
    task = make_important_information_task()
    files = sorted((CORPUS / "texts").glob("*.jsonl"))
    texts = [row for file in files for row in srsly.read_jsonl(file)]
    responses = {row["id"]: row["response"] for row in srsly.read_jsonl(answers)}
    lines = [
        srsly.json_dumps(
            {
                "prompt_sha256": hash_prompt(task.render(row["text"])),
                "response": responses[row["id"]],
                "teacher": TEACHER,
                "id": row["id"],
            }
        )
        for row in texts
    ]
    write_bytes(JOURNAL, "".join(f"{line}\n" for line in lines).encode())
    return len(lines)


if __name__ == "__main__":
    print(f"{make_journal(Path(sys.argv[1]) if len(sys.argv) > 1 else JOURNAL):,} records")
