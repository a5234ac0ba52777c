#!/usr/bin/python3
"""Counts words. docs/tasks.md describes workers, clients/python the package.

    examples/python/worker.py --kind words
"""

import re

from orgcast.worker import GiveUp, Job, main


def count_words(job: Job) -> dict[str, object]:
    """Counts the words of {"text": ...}, sentence by sentence."""
    if not isinstance(job.payload, dict) or not isinstance(job.payload.get("text"), str):
        raise GiveUp("no_text")
    sentences = [s for s in re.split(r"[.!?]", job.payload["text"]) if s.strip()]
    for done in range(1, len(sentences) + 1):
        job.progress({"type": "words_progress", "task_id": job.id, "done": done, "of": len(sentences)})
    return {"type": "task_complete", "task_id": job.id, "words": sum(len(s.split()) for s in sentences)}


if __name__ == "__main__":
    main({"words": count_words})
