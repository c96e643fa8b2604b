"""Executor of OrderedTransform."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx.components.transform import executor as tfx_executor
from tfx.components.transform import executor_utils
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs

from beam_jobs.files import listing, remove_temporary
from components.transform.admission import admit
from components.transform.files import TransformFile
from models.hashing import COLLISIONS_FILE
from models.id_ledger import REPORT_FILE
from models.plan import LEDGER_KEY, VOCABULARIES_KEY, read_run_config
from models.warm_start_index import LEDGER_FILE
from schemas import features

COUNTED_IDS = "counted_ids"


class Executor(tfx_executor.Executor):
    """Lets TFX analyse, and transforms file by file."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the graph, and with it the transformed examples.

        Under ``vocabulary_expiry_days`` the folder of the graph also gets the ledger of ids and
        what became of them (:mod:`models.id_ledger`), and with hashed tables their collisions
        (:mod:`models.hashing`).

        Raises:
            ValueError: there is more than one artifact of examples.
        """
        counted = os.path.join(self._get_tmp_dir(), COUNTED_IDS)
        exec_properties = {
            **exec_properties,
            specs.CUSTOM_CONFIG_KEY: self._count_ids(input_dict, exec_properties, counted),
        }
        [transformed] = output_dict[specs.TRANSFORMED_EXAMPLES_KEY]
        # Without a place for them, TFX leaves the examples alone.
        analysis = {k: v for k, v in output_dict.items() if v != [transformed]}
        super().Do(input_dict, analysis, exec_properties)

        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        graph = artifact_utils.get_single_uri(output_dict[specs.TRANSFORM_GRAPH_KEY])
        for name in (LEDGER_FILE, REPORT_FILE, COLLISIONS_FILE):
            if os.path.exists(os.path.join(counted, name)):
                shutil.copyfile(os.path.join(counted, name), os.path.join(graph, name))
        config = executor_utils.ResolveSplitsConfig(
            exec_properties.get(specs.SPLITS_CONFIG_KEY), [examples]
        )
        custom_config = json.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])
        splits = list(config.transform)
        transformed.split_names = artifact_utils.encode_split_names(splits)
        folders = {
            artifact_utils.get_split_uri([examples], split): artifact_utils.get_split_uri(
                [transformed], split
            )
            for split in splits
        }
        for folder in folders.values():
            FileSystems.mkdirs(folder)
        files = [
            (source, os.path.join(target, os.path.basename(source)))
            for folder, target in folders.items()
            for source in listing(folder)
        ]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Transform"
                >> beam.ParDo(
                    TransformFile(
                        graph,
                        total=len(files),
                        pack_impressions=read_run_config(custom_config).pack_impressions,
                    )
                )
            )
        for folder in folders.values():
            remove_temporary(folder)

    def _count_ids(
        self,
        input_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
        folder: str,
    ) -> str:
        """Counts ids into ``folder`` if the configuration asks for it.

        Returns:
            The custom configuration as JSON, which says where decided vocabularies are.
        """
        custom_config = json.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])
        config = read_run_config(custom_config)
        plan, expiry_days = config.plan, config.model.vocabulary_expiry_days
        if expiry_days is None and not any(plan.hashed(table) for table in plan.tables):
            return json.dumps(custom_config)
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        with self._make_beam_pipeline() as pipeline:
            admit(
                pipeline,
                listing(artifact_utils.get_split_uri([examples], features.TRAIN_SPLIT)),
                plan,
                expiry_days=expiry_days,
                earlier=custom_config.get(LEDGER_KEY, ""),
                folder=folder,
            )
        if expiry_days is not None:
            custom_config[VOCABULARIES_KEY] = folder
        return json.dumps(custom_config)
