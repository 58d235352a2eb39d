"""Learning: run both models over a sub data set, count, and derive the rules."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classaug_ros import __version__, fusion
from classaug_ros.data.dataset import Dataset, Sample
from classaug_ros.errors import ConfigError
from classaug_ros.io.interruption import interruption
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.fit import fit_evidence
from classaug_ros.learning.score_samples import per_class
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Provenance, Rules, derive
from classaug_ros.rules.task import Task

CHECKPOINT_SECONDS = 20.0

_logger = logging.getLogger(__name__)


def count(pipeline: Pipeline, datasets: Sequence[Dataset], task: Task, path: Path, limit: int | None = None) -> Counts:
    """Count the triples of data sets, into a file that a second call goes on from.

    The file is written every ``CHECKPOINT_SECONDS``, at the end, and when the work is interrupted.

    Args:
        pipeline: both models.
        datasets: data sets whose classes are sub classes, by name.
        task: its classes must be those of the models.
        path: the counts file; images in it already are not run again.
        limit: stop after so many images in all, those counted before included.

    Raises:
        ConfigError: the data sets, the task or the counts file do not fit the models, or cannot be read or written.
        ImageError: an image cannot be read.
        EngineError: a model failed.
    """
    main_model, sub_model = pipeline.models
    counts = Counts.load(path) if path.exists() else Counts.empty(main_model, sub_model)
    try:
        counts.check_models(main_model, sub_model)
        counts.check_datasets({dataset.name: dataset.fingerprint for dataset in datasets})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    counts.check_task(task)
    translations = [_translation(dataset, task) for dataset in datasets]
    if counts.images:
        _logger.info("%s: going on after %d images counted before", path, len(counts.images))
    work = _remaining(datasets, counts, limit)
    most = per_class(len(counts.images) + len(work))
    saved = time.monotonic()
    try:
        with fusion.telling(_logger.info), interruption() as interrupted:
            for which, sample in tqdm(work, desc="learn", unit="image", disable=None):
                frame, truth = datasets[which].read(sample)
                inferred = pipeline.infer(pipeline.prepare(frame))
                main, sub = pipeline.labels(inferred, (truth.shape[0], truth.shape[1]))
                counts.note_dataset(datasets[which].name, datasets[which].fingerprint)
                meant = translations[which][truth]
                counts.add(sample.name, main, sub, meant)
                if counts.parts is not None:
                    counts.sample(pipeline.scores(inferred), meant, most)
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    counts.save(path)
                    saved = time.monotonic()
                    if not sys.stderr.isatty():  # where there is no progress bar
                        _logger.info("%d images counted so far: %s", len(counts.images), path)
                if interrupted.is_set():  # between images, so that none is half counted
                    raise KeyboardInterrupt
    finally:
        if counts.images:  # a mistake met at the first image leaves no file that a corrected start would not fit
            counts.save(path)
    return counts


def derive_rules(counts: Counts, task: Task, min_support: int = 1) -> Rules:
    """Derive a task's rules of both kinds from counts; of kind table alone where a model returns labels.

    Args:
        counts: counted triples.
        task: its classes must be the counted ones.
        min_support: pixels a pair needs to have a rule, at least 1.

    Raises:
        ConfigError: the task's classes differ, or nothing was counted.
    """
    counts.check_task(task)
    pixels = int(counts.triples.sum())
    if pixels == 0:
        raise ConfigError("no labelled pixel was counted: are all values of the ground truth ignored?")
    provenance = Provenance(
        task=task.fingerprint,
        main_model=counts.main_model,
        sub_model=counts.sub_model,
        datasets=tuple(sorted(counts.datasets)),
        images=len(counts.images),
        pixels=pixels,
        min_support=min_support,
        package_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    samples = counts.samples
    if not samples:
        return derive(counts.triples, task, provenance)
    _logger.info("fitting the probability rule to %d pixels, which may take a minute", len(samples))
    return derive(counts.triples, task, provenance, fit_evidence(samples, counts.images, task))


def _translation(dataset: Dataset, task: Task) -> NDArray[np.uint16]:
    """Return the sub class id of each value of the data set's truth; past the classes where unlabelled."""
    table = np.full(dataset.classes.unlabelled + 1, task.sub.unlabelled, np.uint16)
    for number in dataset.present:
        name = dataset.classes.names[number]
        if name not in task.sub.names:
            raise ConfigError(
                f"data set {dataset.name!r}: its class {name!r} is no sub class of the task; learning needs ground "
                "truth in sub classes: map the value to one, or list it under `ignore`"
            )
        table[number] = task.sub.index(name)
    return table


def _remaining(datasets: Sequence[Dataset], counts: Counts, limit: int | None) -> list[tuple[int, Sample]]:
    names = [dataset.name for dataset in datasets]
    if len(set(names)) != len(names):
        raise ConfigError(f"two data sets have the same name ({', '.join(names)}); names must be unique")
    done = set(counts.images)
    work = [
        (which, sample)
        for which, dataset in enumerate(datasets)
        for sample in dataset.samples
        if sample.name not in done
    ]
    return work if limit is None else work[: max(limit - len(done), 0)]
